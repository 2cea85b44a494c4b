"""What does every experiment and every benchmark share on the command line?

An experiment is a module with a frozen subclass of `experiments.common.options.Options` called `Config`, a function
`run(config)` that computes and returns its results without touching a file, a function `figures(results, config)`
that draws them, and three closing lines::

    if __name__ == "__main__":
        main(run, Config, name="experiments.hessian_blocking", figures=figures)

`main` then keeps the contract: `--output`, `--seed`, `--smoke`, `--preset` and `--devices`; a folder with a
result is never touched; the folder holds `result.json`, the tables as `.csv`, the figures as `.png` and `.svg`
and the page `report.html`; the exit status is 1 if the run fails its own check, 2 for bad input and 130 if it was
interrupted.
"""

import dataclasses
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import tyro

from bnjax.compilation import compile_sooner
from bnjax.devices import row_mesh
from bnjax.reporting.records import RESULT_FILE, Record, default_directory, provenance
from experiments.common.claim import Claim, with_claims
from experiments.common.ending import end_with, terminated_as_interrupted
from experiments.common.folder import Figures, Results, print_results, publish, reserved
from experiments.common.options import Options
from experiments.common.pipes import while_somebody_reads

Config = TypeVar("Config", bound=Options)


def main(
    run: Callable[[Config], Results],
    config_type: type[Config],
    *,
    name: str,
    figures: Figures | None = None,
    failures: Callable[[Results], list[str]] | None = None,
    claims: Callable[[Results, dict[str, Any]], Sequence[Claim]] | None = None,
    columns: Sequence[str] | None = None,
    summary: Callable[[Results], list[dict[str, Any]]] | None = None,
    x64: bool = True,
    sooner: bool = False,
    args: Sequence[str] | None = None,
) -> None:
    """Run an experiment from the command line and keep its record.

    The order is: parse, refuse an occupied folder, compute, write tables, figures and page, write `result.json`
    last, so that its presence says that the folder is complete, and print the table. If only the drawing fails, the
    record is kept nonetheless: figures and page can be drawn from it again by `python -m experiments.redraw`.

    Args:
        run: computes the results from the config, without touching files. `table` is a non-empty list of
            flat rows; further lists of flat rows become `.csv` files under their own names. `notes` are
            sentences that are printed below the table and stand on the page.
        config_type: the dataclass of the options; its docstring heads `--help`.
        name: the dotted name of the experiment's module, such as `experiments.hessian_blocking`.
        figures: draws the figures from the record's results and config, as plain lists and dicts; the keys
            are the names of the files.
        failures: returns a line for each check that the results fail, kept as `failures` in the results.
        claims: returns what the run found of the papers' claims, from the same two as `figures`, kept as the table
            `claims` in the results. If it fails, the record is kept without.
        columns: the columns of the printed table; all of them if None.
        summary: returns the rows of the printed table where `table` itself is too long to read.
        x64: whether float64 is the default, instead of float32; Flax's networks are in float32 unless told otherwise.
        sooner: whether programs are compiled by `bnjax.compilation.compile_sooner`, which suits what draws no random
            numbers and is compiled for longer than it runs.
        args: the command line's arguments; those of the process if None.

    Raises:
        SystemExit: with status 1 if a check or the drawing failed, 2 for bad input, 130 if interrupted.
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
    try:
        with terminated_as_interrupted(), reserved(directory):
            begin = perf_counter()
            with _without_optimization() if config.smoke else nullcontext():
                results = run(dataclasses.replace(config, output=directory))
            wall_time_s = perf_counter() - begin
            if failures is not None:
                results = {**results, "failures": failures(results)}
            origin = provenance(
                dtype=str(jnp.result_type(float)),
                seed=config.seed,
                devices=config.devices,
                started=started,
                wall_time_s=wall_time_s,
                repository=Path(__file__).parent,
            )
            record = Record(name, settings, origin, results)
            complaint = []
            try:
                record = with_claims(record, claims)
            except Exception as error:  # The results are there, whatever is made of them.
                traceback.print_exc()
                complaint = [f"what was found of the claims is missing ({error!r}); mend that and draw the run again"]
            complaint += publish(directory, record, figures)
        print_results(record, directory, summary, columns)
    except KeyboardInterrupt:
        end_with(130, f"interrupted: {_left(directory)}")
    # The last three: a loss that is not finite, memory that does not suffice.
    except (ValueError, TypeError, OSError, ArithmeticError, MemoryError, jax.errors.JaxRuntimeError) as error:
        end_with(2, f"error: {error}{_place(error)}")
    for line in (*results.get("failures", ()), *complaint):
        print(f"failed: {line}", file=sys.stderr)
    if results.get("failures") or complaint:
        raise SystemExit(1)


def _parse(config_type: type[Config], name: str, args: Sequence[str] | None) -> Config:
    try:
        markers = (tyro.conf.FlagCreatePairsOff,)
        given = sys.argv[1:] if args is None else args
        default = config_type()
        if "--preset=paper" in given or ("--preset", "paper") in pairwise(given):
            default = default.paper_sized()
        if "--smoke" in given:
            default = default.smoke_sized()
        with while_somebody_reads():
            return tyro.cli(config_type, prog=f"python -m {name}", args=args, default=default, config=markers)
        raise SystemExit(0)  # Nobody reads the help any more.
    except (ValueError, TypeError) as error:
        end_with(2, f"error: {error}")


def _start_devices(count: int) -> None:
    """Split a CPU into so many devices, before JAX computes anything; exit if there are fewer."""
    if count == 1:
        return
    with suppress(RuntimeError):  # In a process that has computed before, the devices are those that it has.
        jax.config.update("jax_num_cpu_devices", count)
    try:
        row_mesh(count)
    except ValueError as error:
        end_with(2, f"error: --devices {count}: {error}")


@contextmanager
def _without_optimization() -> Iterator[None]:
    """Compile sooner, in all threads, what is fast anyway; afterwards the process compiles as before."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def _left(directory: Path) -> str:
    """Say what an interrupted run leaves."""
    if (directory / RESULT_FILE).exists():
        return f"the run was finished, {directory} holds its {RESULT_FILE}"
    trained = (directory / "runs").is_dir()
    command = f"the same command with {shlex.join(['--output', str(directory)])}"
    return f"no {RESULT_FILE} was written" + (f"; {command} goes on from what was trained" if trained else "")


def _place(error: BaseException) -> str:
    """Say where an error came up, since its traceback is not shown; what is raised on purpose says what to do."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = [frame for frame in frames if "site-packages" not in frame.filename][-1]
    if frame is frames[-1] and (frame.line or "").startswith("raise "):
        return ""
    return f" ({Path(frame.filename).name}:{frame.lineno}, in {frame.name})"
