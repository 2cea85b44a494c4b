"""Which runs are there, and how do two of them differ? `python -m experiments.index results`.

The page `index.html` in the folder shows every run below it with its question, its settings other than the default
and what it found, two of which can be set side by side. Records that cannot be read are listed as such.
"""

import dataclasses
import importlib
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import tyro

from bnjax.reporting.files import write_text
from bnjax.reporting.pages import Run, runs_page
from bnjax.reporting.records import RESULT_FILE, Record, read_record
from experiments.common.ending import end_with
from experiments.common.folder import PAGE_FILE
from experiments.common.question import ROOMS, question_of


def index(folder: Path) -> Path:
    """Write the page of all runs below a folder and return its path.

    Raises:
        FileNotFoundError: there is no run below the folder.
    """
    directories = sorted(path.parent for path in folder.rglob(RESULT_FILE))
    if not directories:
        raise FileNotFoundError(f"no {RESULT_FILE} below {folder}; give a folder that holds runs")
    runs, damaged = [], []
    for directory in directories:
        try:
            runs.append(_run(directory, folder))
        except (ValueError, OSError) as error:
            damaged.append({"folder": str(directory.relative_to(folder)), "reason": str(error)})
    runs.sort(key=lambda run: str(run.record.provenance.get("started", "")), reverse=True)
    page = folder / "index.html"
    write_text(page, runs_page(f"Runs of {folder.resolve().name}", runs, damaged))
    return page


def _run(directory: Path, folder: Path) -> Run:
    record = read_record(directory)
    address = directory.relative_to(folder).as_posix()
    defaults = default_config(record.experiment)
    return Run(
        record=record,
        folder="" if address == "." else f"{quote(address)}/",
        page=PAGE_FILE if (directory / PAGE_FILE).is_file() else None,
        question=question_of(record.experiment),
        changed={key: value for key, value in record.config.items() if value != defaults.get(key, ...)},
        figures=sorted(path.stem for path in directory.glob("*.svg")),
    )


def default_config(experiment: str) -> dict[str, Any]:
    """Return an experiment's default settings as its record would hold them; none if it is not of this project."""
    if not experiment.startswith(ROOMS):
        return {}
    try:
        defaults = dataclasses.asdict(importlib.import_module(experiment).Config())
    except (ImportError, AttributeError):
        return {}
    return Record(experiment, defaults, {}, {}).config


def main(folder: Annotated[Path, tyro.conf.Positional] = Path("results")) -> None:
    """Write the page of all runs below a folder.

    Args:
        folder: The folder; the page is its index.html.
    """
    try:
        print(index(folder))
    except OSError as error:
        end_with(2, f"error: {error}")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.index")
