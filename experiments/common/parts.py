"""How does one experiment run others? Each in a process and a folder of its own, and only once."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from time import perf_counter, sleep
from typing import NamedTuple

from bnjax.reporting.records import RESULT_FILE, Record, read_record
from experiments.common.progress import parts_bar

# How often is looked whether a process has ended, and how long one that is told to end may take, in seconds.
LOOK_EVERY_S, END_WITHIN_S = 0.1, 10.0
# What is told of a run, whichever experiment it is of.
NEEDED_OF_RUN, NEEDED_OF_RESULTS = {"command", "started", "wall_time_s", "device"}, {"table", "failures"}


class Parts(NamedTuple):
    """What became of experiments.

    Attributes:
        records: the records of those that have one, by name.
        reasons: why others have none: they left none, or one that can't be read, which is not run again.
    """

    records: dict[str, Record]
    reasons: dict[str, str]


def run_parts(parts: Mapping[str, Sequence[str]], output: Path, *, at_once: int = 1) -> Parts:
    """Return the records of experiments in `output/<name>`, run as from the command line where there is none yet.

    What they print goes to `output/<name>.txt`; a line for each, with its seconds, and on a terminal a bar, to stderr.
    Their checks may have failed; their results then say so. One that leaves no record does not stop the others.

    Args:
        parts: the names of modules of `experiments`, and their command lines besides `--output`.
        output: the folder of all.
        at_once: so many run side by side. More than one pays only where they hardly compute: each uses all processors.

    Raises:
        ValueError: before any runs, where a folder holds the record of another command.
    """
    before = recorded_parts(parts, output)
    told = {**dict.fromkeys(before.records, "recorded before"), **before.reasons}
    missing = {name: arguments for name, arguments in parts.items() if name not in told}
    reasons: dict[str, str] = {}
    with parts_bar(len(parts)) as (begins, ends):
        for name, line in told.items():
            ends(f"{name}: {line}")

        def ended(name: str, status: int, seconds: float) -> None:
            if not (output / name / RESULT_FILE).exists():
                reasons[name] = _reason(_printed(name, output), status)
            ends(f"{name}: {reasons.get(name, 'recorded')}, {seconds:.0f} s")

        _run(missing, output, at_once, begins, ended)
    after = recorded_parts(parts, output)
    reasons |= after.reasons
    return Parts(after.records, {name: reasons[name] for name in parts if name in reasons})


def recorded_parts(parts: Mapping[str, Sequence[str]], output: Path) -> Parts:
    """Return the records that are there, and why what else is there can't be read as the experiment's record.

    Raises:
        ValueError: a folder holds the record of another command.
    """
    records: dict[str, Record] = {}
    reasons: dict[str, str] = {}
    for name, arguments in parts.items():
        if (output / name / RESULT_FILE).exists():
            try:
                records[name] = _record(name, output / name)
            except (ValueError, OSError) as error:
                reasons[name] = str(error)
                continue
            _require_command(records[name], output / name, _command(name, output, arguments))
    return Parts(records, reasons)


def command_line(name: str, given: Sequence[str], *, devices: int, data_dir: Path | None) -> list[str]:
    """Return the command line of an experiment besides `--output`, with the options that all of a whole share.

    Args:
        name: of its module in `experiments`.
        given: its other options.
        devices: as of the whole.
        data_dir: as of the whole; left out where the experiment reads no images.
    """
    spread = ["--devices", str(devices)] if devices != 1 else []
    takes_images = data_dir is not None and hasattr(import_module(f"experiments.{name}").Config, "data_dir")
    return [*given, *spread, *(["--data-dir", str(data_dir)] if takes_images else [])]


def command_without_places(command: str) -> str:
    """Return a command without its folders, which have several names.

    Example:
        >>> command_without_places("python -m experiments.flow --output results/flow --seed 3")
        'python -m experiments.flow --seed 3'
    """
    words = shlex.split(command)
    places = [place for place, word in enumerate(words) if word in ("--output", "--data-dir")]
    return shlex.join(word for place, word in enumerate(words) if place not in places and place - 1 not in places)


def _run(
    parts: Mapping[str, Sequence[str]],
    output: Path,
    at_once: int,
    begins: Callable[[str], None],
    ended: Callable[[str, int, float], None],
) -> None:
    """Run experiments, so many side by side, and tell of begin and end of each; none goes on when this ends."""
    waiting = list(parts.items())
    running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                name, arguments = waiting.pop(0)
                begins(name)
                with _printed(name, output).open("wb") as printed:
                    command = [sys.executable, *_command(name, output, arguments)]
                    process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
                running[name] = process, perf_counter()
            sleep(LOOK_EVERY_S)
            for name in [name for name, (process, _) in running.items() if process.poll() is not None]:
                process, begin = running.pop(name)
                ended(name, process.returncode, perf_counter() - begin)
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            try:
                process.wait(END_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _printed(name: str, output: Path) -> Path:
    return output / f"{name}.txt"


def _command(name: str, output: Path, arguments: Sequence[str]) -> list[str]:
    return ["-m", f"experiments.{name}", "--output", str(output / name), *arguments]


def _reason(printed: Path, status: int) -> str:
    """Return why a run left no record: the last line of what it said, or how it ended."""
    said = printed.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    return f"{said[-1].removeprefix('error: ')} ({how})" if said else how


def _record(name: str, folder: Path) -> Record:
    record = read_record(folder)
    if record.experiment != f"experiments.{name}":
        raise ValueError(f"{folder} needs to hold a result of {name}, got one of {record.experiment}; remove it")
    if lacking := sorted((NEEDED_OF_RUN - set(record.provenance)) | (NEEDED_OF_RESULTS - set(record.results))):
        raise ValueError(f"{folder} needs to hold a result of {name}, got one without {', '.join(lacking)}; remove it")
    return record


def _require_command(record: Record, folder: Path, words: Sequence[str]) -> None:
    made_by, expected = record.provenance["command"], shlex.join(["python", *words])
    if command_without_places(made_by) != command_without_places(expected):
        raise ValueError(
            f"{folder} holds the result of\n    {made_by}\nand not of\n    {expected}\n"
            "give another --output, or remove that folder"
        )
