"""What does every experiment and every benchmark share on the command line?

An experiment is a module with a frozen `Options` subclass called ``Config``, a function ``run(config)`` that
computes and returns its results without touching a file, a function ``figures(results, config)`` that draws
them, and three closing lines::

    if __name__ == "__main__":
        main(run, Config, name="experiments.hessian_blocking", figures=figures)

`main` then keeps the contract: ``--output``, ``--seed``, ``--smoke``, ``--preset`` and ``--devices``; a folder with a
result is never touched; the folder holds ``result.json``, the tables as ``.csv`` and the figures as ``.png`` and
``.svg``; the exit status is 1 if the run fails its own check, 2 for bad input and 130 if it was interrupted.
"""

import dataclasses
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Self, TypeVar

import jax
import jax.numpy as jnp
import tyro
from jax.sharding import Mesh
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

from bnjax.compilation import compile_sooner
from bnjax.devices import over_rows, row_mesh
from bnjax.reporting.records import (
    Record,
    config_digest,
    default_directory,
    provenance,
    require_free,
    tables_of,
    write_csv,
    write_record,
)
from bnjax.reporting.tables import format_table
from experiments.claims import Claim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = dict[str, Any]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Options:
    """The options of every experiment; each experiment's ``Config`` adds its own."""

    output: Path | None = None
    """Folder for result.json, tables and figures; results/<name>/<time>-<config digest> if not given."""
    seed: int = 0
    """Seed of everything random."""
    smoke: bool = False
    """A run of seconds, compiled without optimization, at sizes that only show that everything works."""
    preset: Literal["default", "paper"] = "default"
    """The sizes to begin with: of minutes on a laptop, or as published; options given beside it win."""

    devices: int = 1
    """Devices over which the rows of every batch are spread; a CPU is split into so many."""

    least: ClassVar[Mapping[str, int]] = {"seed": 0}
    counts_of_rows: ClassVar[tuple[str, ...]] = ("batch_size", "rows")

    def __post_init__(self) -> None:
        """Checks that numbers are in range, no list is empty or repeats a value, the seeds fit, and rows divide.

        Whole numbers are counts, from 1 or `least` on; others are finite and not negative.
        """
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), self.least.get(field.name, 1)
            if type(value) is int and value < least:
                raise ValueError(f"--{field.name.replace('_', '-')} needs to be at least {least}, got {value}")
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, float) and not 0 <= number < float("inf") for number in numbers):
                name = field.name.replace("_", "-")
                raise ValueError(f"--{name} needs to be finite and not negative, got {' '.join(map(str, numbers))}")
            if isinstance(value, tuple) and (not value or len(set(value)) < len(value)):
                name = field.name.replace("_", "-")
                raise ValueError(f"--{name} needs at least one value and none twice, got {' '.join(map(str, value))}")
        last = self.seed + getattr(self, "seeds", 1) - 1
        if last >= 2**32:
            raise ValueError(f"--seed needs to be below 2**32, and so every further seed, got {self.seed} to {last}")
        counts = {name.replace("_", "-"): getattr(self, name, 0) for name in self.counts_of_rows}
        uneven = {name: count for name, count in counts.items() if count % self.devices}
        if uneven:
            above = [f"--{name} {count + -count % self.devices}" for name, count in uneven.items()]
            raise ValueError(
                f"--devices {self.devices} needs a multiple of it for --{' and --'.join(uneven)}, got "
                f"{' and '.join(map(str, uneven.values()))}; take {' '.join(above)}, or fewer devices"
            )

    @property
    def mesh(self) -> Mesh | None:
        """The devices of ``--devices``; None for one, where nothing is spread."""
        return None if self.devices == 1 else row_mesh(self.devices)

    def over_devices(self, batch: Any, *, axis: int = 0) -> Any:
        """Returns the arrays of a batch with their rows, along an axis, spread over ``--devices``."""
        return over_rows(batch, self.mesh, axis=axis)

    def smoke_sized(self) -> Self:
        """Returns these options at the sizes of ``--smoke``; options given on the command line beside it win."""
        return self

    def paper_sized(self) -> Self:
        """Returns these options at the published sizes of ``--preset paper``; the defaults where they are those."""
        return self

    def checkpoints_of(self, name: str) -> Path | None:
        """Returns the folder of one training run in ``output``; the same options give the same, so that it resumes."""
        if self.output is None:
            return None
        without = ("output", "data_dir", "preset")
        options = {key: value for key, value in dataclasses.asdict(self).items() if key not in without}
        return self.output / "runs" / config_digest(options) / name


Config = TypeVar("Config", bound=Options)


def main(
    run: Callable[[Config], Results],
    config_type: type[Config],
    *,
    name: str,
    figures: "Callable[[Results, dict[str, Any]], Mapping[str, Figure]] | None" = None,
    failures: Callable[[Results], list[str]] | None = None,
    claims: Callable[[Results, dict[str, Any]], Sequence[Claim]] | None = None,
    columns: Sequence[str] | None = None,
    summary: Callable[[Results], list[dict[str, Any]]] | None = None,
    x64: bool = True,
    sooner: bool = False,
    args: Sequence[str] | None = None,
) -> None:
    """Runs an experiment from the command line and keeps its record.

    The order is: parse, refuse an occupied folder, compute, write tables and figures, write ``result.json``
    last, so that its presence says that the folder is complete, and print the table. If only the drawing
    fails, the record is kept nonetheless: the figures can be drawn from it again by ``python -m
    experiments.redraw``.

    Args:
        run: Computes the results from the config, without touching files. ``table`` is a non-empty list of
            flat rows; further lists of flat rows become ``.csv`` files under their own names.
        config_type: The dataclass of the options; its docstring heads ``--help``.
        name: The dotted name of the experiment's module, such as ``experiments.hessian_blocking``.
        figures: Draws the figures from the record's results and config, as plain lists and dicts; the keys
            are the names of the files.
        failures: Returns a line for each check that the results fail, kept as ``failures`` in the results.
        claims: Returns what the run found of the papers' claims, from its results and its config as a dict, kept as
            the table ``claims`` in the results. A smoke run finds nothing: its sizes say nothing about the question.
        columns: The columns of the printed table; all of them if None.
        summary: Returns the rows of the printed table where ``table`` itself is too long to read.
        x64: Whether to compute in float64.
        sooner: Whether programs are compiled by `bnjax.compilation.compile_sooner`, which suits what draws no random
            numbers and is compiled for longer than it runs.
        args: The command line's arguments; those of the process if None.

    Raises:
        SystemExit: With status 1 if a check or the drawing failed, 2 for bad input, 130 if interrupted.
    """
    started = datetime.now(UTC)
    if sooner:
        compile_sooner()
    if x64:
        jax.config.update("jax_enable_x64", True)
    config = _parse(config_type, name, args)
    _start_devices(config.devices)
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key != "output"}
    directory = config.output or default_directory(name, settings)
    made = not directory.exists()
    try:
        require_free(directory)
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=directory):
            pass  # Better refused now than when the results are there.
    except OSError as error:
        _exit(2, f"error: {error}")
    try:
        begin = perf_counter()
        with _terminated_as_interrupted(), _without_optimization() if config.smoke else nullcontext():
            results = run(dataclasses.replace(config, output=directory))
        wall_time_s = perf_counter() - begin
        if failures is not None:
            results = {**results, "failures": failures(results)}
        if claims is not None and not config.smoke:
            results = {**results, "claims": [claim.to_row() for claim in claims(results, settings)]}
        origin = provenance(
            dtype=str(jnp.result_type(float)),
            seed=config.seed,
            devices=config.devices,
            started=started,
            wall_time_s=wall_time_s,
            repository=Path(__file__).parent,
        )
        record = Record(name, settings, origin, results)
        complaint = _publish(directory, record, figures)
    except KeyboardInterrupt:
        trained = (directory / "runs").is_dir()
        goes_on = f"; the same command with --output {directory} goes on from what was trained" if trained else ""
        _exit(130, f"interrupted: no result.json was written{goes_on}")
    # The last two: a loss that is not finite, memory that does not suffice.
    except (ValueError, TypeError, OSError, ArithmeticError, jax.errors.JaxRuntimeError) as error:
        _exit(2, f"error: {error}{_place(error)}")
    finally:
        if made and directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
    _print_results(record, directory, summary, columns)
    for line in (*results.get("failures", ()), *complaint):
        print(f"failed: {line}", file=sys.stderr)
    if results.get("failures") or complaint:
        raise SystemExit(1)


def progress(iterable: Iterable[Item], description: str, total: float | None = None) -> Iterable[Item]:
    """Passes items on and shows how far the loop is, on stderr and only if that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return iterable
    return track(iterable, description, total=total, console=console, transient=True)


def call_in_threads(tasks: Sequence[Callable[[], Result]], description: str, *, devices: int) -> list[Result]:
    """Returns what the tasks return, in order, with a thread for each core and a progress bar.

    Most of an experiment's time is compilation, which leaves Python's lock alone.
    """
    with ThreadPoolExecutor(threads_on(devices)) as pool:
        return list(progress(pool.map(lambda task: task(), tasks), description, total=len(tasks)))


def threads_on(devices: int) -> int | None:
    """Returns how many threads may compute: one for each core, but on several devices one alone.

    Two programs that start there in different orders would wait for one another.
    """
    return os.cpu_count() if devices == 1 else 1


@contextmanager
def training_bar(epochs: int) -> Iterator[Callable[[str, Mapping[str, float]], None]]:
    """Shows loss, test score and time left over so many epochs, on stderr and only if that is a terminal.

    Yields:
        A function to be called after every epoch with what is being trained and the epoch's metrics.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=epochs)

        def advance(what: str, row: Mapping[str, float]) -> None:
            scores = [f"{key.replace('_', ' ')} {row[key]:.3f}" for key in row if key.startswith("test_")]
            text = f"{what}: loss {row['train_loss']:.3g}, {', '.join(scores)}"
            bar.update(task, advance=1, description=text)

        yield advance


def _parse(config_type: type[Config], name: str, args: Sequence[str] | None) -> Config:
    try:
        markers = (tyro.conf.FlagCreatePairsOff,)
        given = sys.argv[1:] if args is None else args
        default = config_type()
        if "--preset=paper" in given or ("--preset", "paper") in pairwise(given):
            default = default.paper_sized()
        if "--smoke" in given:
            default = default.smoke_sized()
        return tyro.cli(config_type, prog=f"python -m {name}", args=args, default=default, config=markers)
    except (ValueError, TypeError) as error:
        _exit(2, f"error: {error}")


def _start_devices(count: int) -> None:
    """Splits a CPU into so many devices, before JAX computes anything; exits if there are fewer."""
    if count == 1:
        return
    with suppress(RuntimeError):  # In a process that has computed before, the devices are those that it has.
        jax.config.update("jax_num_cpu_devices", count)
    try:
        row_mesh(count)
    except ValueError as error:
        _exit(2, f"error: --devices {count}: {error}")


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Lets a run that is told to end (SIGTERM) end as by Ctrl-C, with what it has started."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _without_optimization() -> Iterator[None]:
    """Compiles sooner, in all threads, what is fast anyway; afterwards the process compiles as before."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def _publish(
    directory: Path,
    record: Record,
    figures: "Callable[[Results, dict[str, Any]], Mapping[str, Figure]] | None",
) -> list[str]:
    """Writes everything, the record last; returns a line if the drawing failed."""
    tables = tables_of(record.results)
    if "table" not in tables:
        raise TypeError("an experiment's results hold 'table', a non-empty list of flat rows")
    require_free(directory)
    for table, rows in tables.items():
        write_csv(directory / f"{table}.csv", rows)
    complaint = []
    if figures is not None:
        from bnjax.reporting.figures import save

        try:
            save(figures(record.results, record.config), directory)
        except Exception:
            traceback.print_exc()
            complaint = [f"the figures were not drawn; once mended, run python -m experiments.redraw {directory}"]
    write_record(directory, record)
    return complaint


def _print_results(
    record: Record,
    directory: Path,
    summary: Callable[[Results], list[dict[str, Any]]] | None,
    columns: Sequence[str] | None,
) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # A terminal without Greek letters is no reason to fail.
    rows = (summary(record.results) if summary else []) or record.results["table"]
    try:
        print(format_table(rows, columns=columns))
        if record.results.get("failures") == []:
            print("\nAll checks of the computation hold.")
        if record.config["smoke"]:
            print("\nA smoke run: its sizes say nothing about the question.")
        print(f"\nwritten to {directory}/: {', '.join(sorted(path.name for path in directory.iterdir()))}", flush=True)
    except BrokenPipeError:  # Nobody reads on, as with `| head`; the record is complete.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the interpreter flushes it at exit


def _place(error: BaseException) -> str:
    """Says where an error came up, since its traceback is not shown; what is raised on purpose says what to do."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = [frame for frame in frames if "site-packages" not in frame.filename][-1]
    if frame is frames[-1] and (frame.line or "").startswith("raise "):
        return ""
    return f" ({Path(frame.filename).name}:{frame.lineno}, in {frame.name})"


def _exit(status: int, message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(status)
