"""How does one experiment run others? Each in a process and a folder of its own, some at once, and only once."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import sleep

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bnjax.reporting.records import RESULT_FILE, Record, read_record


def run_parts(parts: Mapping[str, Sequence[str]], output: Path) -> dict[str, Record]:
    """Return the records of experiments in `output/<name>`, run as from the command line where there is none yet.

    As many run at once as there are processors, since most of an experiment's time is compilation on one. What they
    print goes to `output/<name>.txt`. Their checks may have failed; their results then say so.

    Args:
        parts: the names of modules of `experiments`, and their command lines besides `--output`.
        output: the folder of all.

    Raises:
        ValueError: a folder holds the record of another command, or what is none of this experiment.
        ChildProcessError: one leaves no record, as a run that was refused or killed.
    """
    missing = [name for name in parts if not (output / name / RESULT_FILE).exists()]
    running: dict[str, subprocess.Popen] = {}
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("", total=len(parts), completed=len(parts) - len(missing))
    bar.start()
    try:
        while missing or running:
            while missing and len(running) < (os.cpu_count() or 1):
                name = missing.pop(0)
                with (output / f"{name}.txt").open("w", encoding="utf-8") as printed:
                    command = [sys.executable, *_command(name, output, parts[name])]
                    running[name] = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
            bar.update(task, description=", ".join(running))
            sleep(0.1)
            for name in [name for name, process in running.items() if process.poll() is not None]:
                status = running.pop(name).returncode
                bar.advance(task)
                if not (output / name / RESULT_FILE).exists():
                    printed = output / f"{name}.txt"
                    raise ChildProcessError(
                        f"experiments.{name} ended with exit status {status} and without a result; it has printed "
                        f"{printed.read_text(encoding='utf-8').strip()!r}"
                    )
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
        bar.stop()
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
