"""What does a finished run leave in its folder and on the terminal?"""

import io
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnjax.reporting.records import Record, require_free, tables_of, write_csv, write_record
from bnjax.reporting.tables import format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = dict[str, Any]
# Draws figures, by the names of their files, from the results and the config of a record.
Figures = Callable[[Results, dict[str, Any]], "Mapping[str, Figure]"]


def publish(directory: Path, record: Record, figures: Figures | None) -> list[str]:
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


def print_results(
    record: Record,
    directory: Path,
    summary: Callable[[Results], list[dict[str, Any]]] | None,
    columns: Sequence[str] | None,
) -> None:
    """Prints the table, whether the checks hold, and the files; quietly, if nobody reads on."""
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
