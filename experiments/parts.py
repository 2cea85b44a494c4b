"""How does one experiment run others? Each in a process and a folder of its own, and only once."""

import shlex
import subprocess
import sys
from pathlib import Path

from bnjax.reporting.records import RESULT_FILE, Record, read_record


def part_record(name: str, folder: Path, *arguments: str) -> Record:
    """Return the record of an experiment, run as from the command line unless it lies in the folder already.

    Its checks may have failed; its results then say so. Its progress and its messages are shown, its table is not.

    Args:
        name: the dotted name of the experiment's module.
        folder: its output.
        arguments: its further command line.

    Raises:
        ValueError: the folder holds the record of another command, or what is none of this experiment.
        ChildProcessError: there is no record, as of a run that was refused or killed.
    """
    command = ["-m", name, "--output", str(folder), *arguments]
    if not (folder / RESULT_FILE).exists():
        done = subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=False)
        if not (folder / RESULT_FILE).exists():
            raise ChildProcessError(f"{name} ended with exit status {done.returncode} and without a result")
    record = read_record(folder)
    if record.experiment != name or not {"table", "failures"} <= set(record.results):
        raise ValueError(f"{folder} needs to hold a result of {name}, got one of {record.experiment}; remove it")
    made_by, expected = record.provenance.get("command", ""), shlex.join(["python", *command])
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
