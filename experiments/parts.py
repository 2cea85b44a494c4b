"""How does one experiment run others? Each in a process and a folder of its own, and only once."""

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bnjax.reporting.records import RESULT_FILE, Record, read_record


def run_parts(parts: Mapping[str, Sequence[str]], output: Path) -> dict[str, Record]:
    """Return the records of experiments in `output/<name>`, run as from the command line where there is none yet.

    One after another: two side by side take as long, since each uses all processors. Their progress and their messages
    are shown, their tables go to `output/<name>.txt`. Their checks may have failed; their results then say so.

    Args:
        parts: the names of modules of `experiments`, and their command lines besides `--output`.
        output: the folder of all.

    Raises:
        ValueError: a folder holds the record of another command, or what is none of this experiment.
        ChildProcessError: one leaves no record, as a run that was refused or killed.
    """
    for name, arguments in parts.items():
        if (output / name / RESULT_FILE).exists():
            continue
        with (output / f"{name}.txt").open("w", encoding="utf-8") as printed:
            command = [sys.executable, *_command(name, output, arguments)]
            status = subprocess.run(command, stdout=printed, check=False).returncode
        if not (output / name / RESULT_FILE).exists():
            raise ChildProcessError(f"experiments.{name} ended with exit status {status} and without a result")
    return {name: _record(name, output, arguments) for name, arguments in parts.items()}


def _command(name: str, output: Path, arguments: Sequence[str]) -> list[str]:
    return ["-m", f"experiments.{name}", "--output", str(output / name), *arguments]


def _record(name: str, output: Path, arguments: Sequence[str]) -> Record:
    folder = output / name
    record = read_record(folder)
    if record.experiment != f"experiments.{name}" or not {"table", "failures"} <= set(record.results):
        raise ValueError(f"{folder} needs to hold a result of {name}, got one of {record.experiment}; remove it")
    made_by, expected = record.provenance.get("command", ""), shlex.join(["python", *_command(name, output, arguments)])
    if _without_places(made_by) != _without_places(expected):
        raise ValueError(
            f"{folder} holds the result of\n    {made_by}\nand not of\n    {expected}\n"
            "give another --output, or remove that folder"
        )
    return record


def _without_places(command: str) -> list[str]:
    """Return a command without its folders, which have several names."""
    words = shlex.split(command)
    places = [place for place, word in enumerate(words) if word in ("--output", "--data-dir")]
    return [word for place, word in enumerate(words) if place not in places and place - 1 not in places]
