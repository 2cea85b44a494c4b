"""Which runs are there, and how do two of them differ? A list of runs, two of which are set side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnjax.reporting.pages.elements import ROWS_SHOWN, Choice, Link, Table
from bnjax.reporting.pages.page import render
from bnjax.reporting.pages.run import entries, time_of
from bnjax.reporting.records import Record, Row, column_names, tables_of
from bnjax.reporting.tables import counted, format_value


@dataclass(frozen=True)
class Run:
    """A finished run, as the list of runs needs it.

    Attributes:
        record: its record.
        folder: the address of its folder, relative to the page and quoted; empty for the folder of the page itself.
        page: the name of its page in that folder; None if there is none.
        question: which question its experiment answers.
        changed: its settings other than the experiment's own.
        figures: the names of the figures, each an SVG file in its folder.
    """

    record: Record
    folder: str
    page: str | None
    question: str
    changed: Mapping[str, Any]
    figures: Sequence[str]


def runs_page(title: str, runs: Sequence[Run], damaged: Sequence[Row] = ()) -> str:
    """Return the page of several runs as HTML; it shows their figures from their folders.

    Args:
        title: its heading.
        runs: the runs, in the order in which they are listed.
        damaged: a row for each record that could not be read.
    """
    return render(
        "runs.html",
        title=title,
        runs=Table("runs", [_listed(index, run) for index, run in enumerate(runs)]),
        damaged=Table("damaged", damaged),
        data=[_data(run) for run in runs],
    )


def _listed(index: int, run: Run) -> dict[str, Any]:
    record = run.record
    name = record.experiment.rpartition(".")[2]
    return {
        "choose": Choice(index, f"{name}, {_time(run)}"),
        "experiment": Link(name, f"{run.folder}{run.page}") if run.page else name,
        "question": run.question,
        "when": _time(run),
        "not the default": ", ".join(f"{key} {format_value(value)}" for key, value in entries(run.changed).items()),
        "found": _found(record.results),
        "wall time s": record.provenance.get("wall_time_s"),
    }


def _time(run: Run) -> str:
    return time_of(run.record.provenance.get("started", ""))


def _found(results: Mapping[str, Any]) -> str:
    """Return how many claims have which verdict, and how many checks failed.

    Example:
        >>> _found({"claims": [{"verdict": "partly"}, {"verdict": "partly"}], "failures": ["loss"]})
        '2 partly; ✗ 1 check failed'
    """
    claims = tables_of(results).get("claims", ())
    found = [counted(row["verdict"] for row in claims)] if claims else []
    failures = results.get("failures")
    if failures:
        found.append(f"✗ {len(failures)} check{'s' if len(failures) > 1 else ''} failed")
    elif failures is not None:
        found.append("✓ checks hold")
    return "; ".join(found)


def _data(run: Run) -> dict[str, Any]:
    """Return what two runs are compared by; tables as far as pages show them, numbers to six digits."""
    name = run.record.experiment.rpartition(".")[2]
    provenance = {key: value for key, value in run.record.provenance.items() if key != "seed"}
    return {
        "experiment": name,
        "name": f"{name}, {_time(run)}",
        "started": str(run.record.provenance.get("started", "")),
        "folder": run.folder,
        "settings": entries(run.record.config) | entries(provenance),
        "tables": {name: _columns(rows[:ROWS_SHOWN]) for name, rows in tables_of(run.record.results).items()},
        "figures": run.figures,
    }


def _columns(rows: Sequence[Row]) -> dict[str, Any]:
    columns = column_names(rows)
    return {"columns": columns, "rows": [[_short(row.get(name)) for name in columns] for row in rows]}


def _short(cell: Any) -> Any:
    return float(f"{cell:.6g}") if isinstance(cell, float) else cell
