"""What is left of every claim of the three papers? All experiments on them, one after the other.

    python -m experiments.reproduce --output DIR
    python -m experiments.reproduce --output DIR --only flow classification
    python -m experiments.reproduce --preset smoke

Every experiment runs as from the command line, in DIR/<name>, where its own page, tables and figures are; what it
prints is in DIR/<name>.txt. The same command goes on where it was ended; what is recorded is not run again. One that
fails, is refused or has a damaged record does not stop the others. DIR/report.html and `--document` gather what all
records in DIR say of the claims; smoke runs say nothing of claims.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from bnjax.reporting.files import write_text
from bnjax.reporting.records import Record, default_directory
from bnjax.reporting.tables import format_table
from experiments.common.claim import BLINDNESS, COLLAPSE, OPTIMIZATION, Paper, with_claims
from experiments.common.earlier_records import UNREADABLE, require_todays_terms
from experiments.common.ending import end_with, terminated_as_interrupted
from experiments.common.folder import PAGE_FILE, require_writable, reserved
from experiments.common.parts import command_line, command_without_places, recorded_parts, run_parts
from experiments.common.pipes import while_somebody_reads
from experiments.common.reproduced import NOT_RUN, Experiment, claims_page, document, experiment_rows

# By the paper that they are about; verify_theorems has the statements of all three. Not here is `smoothness_report`,
# which only gathers what others of these found.
EXPERIMENTS: dict[Paper, tuple[str, ...]] = {
    BLINDNESS: (
        "hessian_blocking",
        "blocking_spectrum",
        "verify_theorems",
        "polynomial_orders",
        "frozen_statistics",
        "four_losses",
        "off_diagonal",
        "linear_part",
        "classification",
        "layer_gradients",
        "flow",
        "blocked_over_training",
        "blocked_by_layer",
    ),
    OPTIMIZATION: ("performance", "smoothness", "lp_norms", "noisy_batch_norm", "deep_linear", "trained_statements"),
    COLLAPSE: ("filter_collapse", "collapse_recovery", "detection", "dead_region", "sparsifying_probability"),
}
NAMES = tuple(name for names in EXPERIMENTS.values() for name in names)
# A smoke run hardly computes: it imports and compiles, on one core.
SMOKE_RUNS_AT_ONCE = 2

if TYPE_CHECKING:
    Name = str
else:  # On the command line, one of the table.
    Name = Literal[NAMES]


@dataclass(frozen=True)
class Config:
    """Run every experiment of the three papers and gather what was found of each claim."""

    output: Path | None = None
    """Folder of all runs; results/reproduce/<time>-<config digest> if not given. Runs that it holds are kept."""
    only: tuple[Name, ...] = NAMES
    """The experiments to run; the others are shown as far as they are in the folder."""
    preset: Literal["smoke", "default", "paper"] = "default"
    """The sizes: of seconds that only show that everything works, of minutes on a laptop, or as published."""
    devices: int = 1
    """Devices over which the rows of every batch are spread; a CPU is split into so many."""
    data_dir: Path | None = None
    """Folder of prepared image sets, and of COCO; TFDS_DATA_DIR or ~/tensorflow_datasets if not given."""
    document: Path | None = None
    """A Markdown file to be written with every claim and what was found of it."""

    def arguments(self, name: str) -> list[str]:
        """Return the command line of an experiment, besides `--output`."""
        sizes = {"smoke": ["--smoke"], "default": [], "paper": ["--preset", "paper"]}[self.preset]
        return command_line(name, sizes, devices=self.devices, data_dir=self.data_dir)


def main(config: Config) -> None:
    """Run the experiments, print what became of them and say so by the exit status.

    Raises:
        SystemExit: with status 1 if an experiment left no record or fails a check, 2 for bad input, 130 if interrupted.
    """
    output = config.output or default_directory(
        "experiments.reproduce", {"preset": config.preset, "devices": config.devices}
    )
    try:
        with terminated_as_interrupted():
            experiments = reproduce(config, output)
    except KeyboardInterrupt:
        end_with(130, f"interrupted; the same command with --output {output} goes on")
    except (ValueError, OSError) as error:
        end_with(2, f"error: {error}")
    written = [output / PAGE_FILE, *([config.document] if config.document else [])]
    with while_somebody_reads():
        print(format_table(experiment_rows(experiments), columns=("command", "seconds", "checks", "claims")))
        print(f"\nwritten to {', '.join(map(str, written))}")
    failed = [f"failed: {experiment.name}: {line}" for experiment in experiments for line in experiment.failures]
    for line in failed:
        print(line, file=sys.stderr)
    if failed:
        raise SystemExit(1)


def reproduce(config: Config, output: Path) -> list[Experiment]:
    """Run what a folder has no record of, and write the page, and the document, of all that it has.

    Returns:
        What became of every experiment, in the order of `EXPERIMENTS`.

    Raises:
        ValueError: smoke runs are to be documented, or the folder holds the record of another command.
        OSError: something cannot be written, or another run has the folder.
    """
    if config.document is not None and config.preset == "smoke":
        raise ValueError("--document needs --preset default or paper: smoke runs say nothing of the claims")
    papers: dict[str, Paper] = {name: paper for paper, names in EXPERIMENTS.items() for name in names}
    parts = {name: config.arguments(name) for name in papers}
    recorded_parts(parts, output)  # Refused now, also if it is not among those to be run.
    at_once = SMOKE_RUNS_AT_ONCE if config.preset == "smoke" else 1
    with reserved(output):
        if config.document is not None:
            require_writable(config.document, "--document")
        reasons = run_parts({name: parts[name] for name in config.only}, output, at_once=at_once).reasons
        found = recorded_parts(parts, output)
        records = {name: _with_todays_claims(name, record) for name, record in found.records.items()}
        outcomes = {**dict.fromkeys(papers, NOT_RUN), **reasons, **found.reasons, **records}
        experiments = [
            Experiment(name, paper, _command(name, parts[name]), outcomes[name]) for name, paper in papers.items()
        ]
        write_text(output / PAGE_FILE, claims_page(experiments))
    if config.document is not None:
        write_text(config.document, document(experiments, config.document))
    return experiments


def _with_todays_claims(name: str, record: Record) -> Record:
    """Return a record with its claims told by today's rules, or as they were kept if these can't read it."""
    try:
        require_todays_terms(record)
        return with_claims(record, getattr(import_module(f"experiments.{name}"), "claims", None))
    except (ImportError, *UNREADABLE):
        return record


def _command(name: str, arguments: Sequence[str]) -> str:
    return command_without_places(shlex.join(["python", "-m", f"experiments.{name}", *arguments]))


if __name__ == "__main__":
    with while_somebody_reads():  # The help.
        main(tyro.cli(Config, prog="python -m experiments.reproduce"))
