"""What does a run say? Its question, what it found of the papers' claims, figures, tables, and how it came about."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bnjax.reporting.pages.elements import Link, Picture, Table
from bnjax.reporting.pages.page import render
from bnjax.reporting.records import Record, tables_of
from bnjax.reporting.tables import format_value

_ARXIV = re.compile(r"arXiv (\d{4}\.\d{5})")


def run_page(record: Record, question: str, pictures: Sequence[Picture] = ()) -> str:
    """Return the page of a run as HTML, to stand beside its `result.json` and its `.csv` files.

    Args:
        record: the record.
        question: which question the experiment answers.
        pictures: its figures.
    """
    tables = {name: Table(name, rows, f"{name}.csv") for name, rows in tables_of(record.results).items()}
    claims = tables.pop("claims", None)
    provenance = dict(record.provenance)
    return render(
        "run.html",
        experiment=record.experiment,
        title=question,
        facts=_facts(record),
        smoke=record.config.get("smoke", False),
        claims=claims and Table("claims", [_claim(row) for row in claims.rows], claims.file),
        failures=record.results.get("failures"),
        notes=record.results.get("notes", ()),
        pictures=pictures,
        tables=list(tables.values()),
        command=provenance.pop("command", None),
        config=entries(record.config),
        provenance=entries(provenance),
    )


def entries(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as flat ones, a list as its values side by side.

    Example:
        >>> entries({"versions": {"jax": "0.10"}, "rates": [0.1, 0.2]})
        {'versions jax': '0.10', 'rates': '0.1 0.2'}
    """
    flat = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= entries(value, f"{prefix}{name} ")
        else:
            flat[f"{prefix}{name}"] = " ".join(map(str, value)) if isinstance(value, list) else value
    return flat


def time_of(started: str) -> str:
    """Return a time of a record as it reads best.

    Example:
        >>> time_of("2026-11-23T00:39:26+00:00")
        '2026-11-23 00:39:26 UTC'
    """
    return started.replace("T", " ").replace("+00:00", " UTC")


def _facts(record: Record) -> list[str]:
    """Return when it ran, for how long, by default in which precision and on what, as far as the record says."""
    origin = record.provenance
    facts = {
        "started": time_of,
        "wall_time_s": lambda seconds: f"{format_value(seconds)} s",
        "dtype": lambda dtype: f"{dtype} by default",
        "device": lambda device: str(device.get("kind", device)) if isinstance(device, Mapping) else str(device),
    }
    about_data = record.results.get("data")
    known = [say(origin[name]) for name, say in facts.items() if origin.get(name)]
    return [*known, about_data] if isinstance(about_data, str) else known


def _claim(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of claims with its verdict first and its paper as a link."""
    found = _ARXIV.fullmatch(str(row.get("paper")))
    paper = {"paper": Link(found[0], f"https://arxiv.org/abs/{found[1]}")} if found else {}
    return {"verdict": row.get("verdict", ""), **row, **paper}
