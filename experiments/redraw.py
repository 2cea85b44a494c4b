"""How does a finished run look with today's drawing? `python -m experiments.redraw DIR`.

Nothing is measured again: the tables, the figures and the page come from `DIR/result.json` alone, the figures and
what is found of the papers' claims by the functions `figures` and `claims` of the module that the record names.
"""

import importlib
from pathlib import Path
from typing import Annotated

import tyro

from bnjax.reporting.records import RESULT_FILE, read_record
from experiments.common.claim import with_claims
from experiments.common.earlier_records import UNREADABLE, require_todays_terms
from experiments.common.ending import end_with
from experiments.common.folder import draw, write_tables
from experiments.common.pipes import while_somebody_reads
from experiments.common.question import ROOMS


def redraw(directory: Path, output: Path | None = None) -> list[Path]:
    """Write tables, figures and page of a finished run again.

    Args:
        directory: the folder that holds the run's result.json, or that file.
        output: the folder for them; the run's own if None.

    Returns:
        The paths of what was written.

    Raises:
        FileNotFoundError: the folder holds no record.
        ValueError: the record's experiment is not one of this project, or it lacks what today's drawing needs.
    """
    directory = directory.parent if directory.name == RESULT_FILE else directory
    record = read_record(directory)
    if not record.experiment.startswith(ROOMS):
        raise ValueError(
            f"{directory} records {record.experiment!r}, which is no experiment or benchmark of this project"
        )
    module = importlib.import_module(record.experiment)
    figures, claims = (getattr(module, name, None) for name in ("figures", "claims"))
    output = output or directory
    try:
        require_todays_terms(record)
        record = with_claims(record, claims)
        return [*write_tables(output, record), *draw(output, record, figures)]
    except UNREADABLE as error:
        raise ValueError(
            f"{directory} lacks what is drawn of {record.experiment} today ({error!r}); run it again, or draw it with "
            f"the version that wrote it, commit {record.provenance.get('git_commit')}"
        ) from error


def main(directory: Annotated[Path, tyro.conf.Positional], output: Path | None = None) -> None:
    """Write tables, figures and page of a finished run again, from its record.

    Args:
        directory: The folder that holds the run's result.json.
        output: The folder for them; the run's own if not given.
    """
    try:
        paths = redraw(directory, output)
    except (ImportError, OSError, ValueError) as error:
        end_with(2, f"error: {error}")
    print("\n".join(map(str, paths)))


if __name__ == "__main__":
    with while_somebody_reads():
        tyro.cli(main, prog="python -m experiments.redraw")
