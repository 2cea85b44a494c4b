"""How do the figures of a finished run look with today's drawing? ``python -m experiments.redraw DIR``.

Nothing is computed again: the figures come from ``DIR/result.json`` alone, through the ``figures`` function
of the module that the record names.
"""

import importlib
import sys
from pathlib import Path
from typing import Annotated

import tyro

from bnjax.reporting.figures import save
from bnjax.reporting.records import RESULT_FILE, read_record

ROOMS = ("experiments.", "benchmarks.")


def redraw(directory: Path, output: Path | None = None) -> list[Path]:
    """Draws the figures of a finished run again.

    Args:
        directory: The folder that holds the run's result.json, or that file.
        output: The folder for the figures; the run's own if None.

    Returns:
        The paths of the figures.

    Raises:
        FileNotFoundError: If the folder holds no record.
        ValueError: If the record's experiment is not one of this project, or draws no figures.
    """
    directory = directory.parent if directory.name == RESULT_FILE else directory
    record = read_record(directory)
    if not record.experiment.startswith(ROOMS):
        raise ValueError(
            f"{directory} records {record.experiment!r}, which is no experiment or benchmark of this project"
        )
    module = importlib.import_module(record.experiment)
    if not hasattr(module, "figures"):
        raise ValueError(f"{record.experiment} draws no figures")
    return save(module.figures(record.results, record.config), output or directory)


def main(directory: Annotated[Path, tyro.conf.Positional], output: Path | None = None) -> None:
    """Draws the figures of a finished run again, from its record.

    Args:
        directory: The folder that holds the run's result.json.
        output: The folder for the figures; the run's own if not given.
    """
    try:
        paths = redraw(directory, output)
    except (ImportError, OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print("\n".join(map(str, paths)))


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.redraw")
