"""How do rows of results read best in a terminal and in a log?"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from io import StringIO
from textwrap import wrap
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bnjax.reporting.records import Row, column_names

_UNLIMITED = 10_000
_TEXT_WIDTH = 56
_HEADER_WIDTH = 14


def format_table(
    rows: Sequence[Row],
    *,
    columns: Sequence[str] | None = None,
    title: str | None = None,
    caption: str | None = None,
) -> str:
    """Return rows as a text table without escape codes.

    Numbers are right-aligned and read as `format_value` writes them. A cell whose key a row lacks stays
    empty. The table is as wide as its content needs, whatever the terminal; long names break after an
    underscore.

    Args:
        rows: flat rows.
        columns: which keys to show, in this order; all of them in the order of first appearance if None.
        title: a line above the table.
        caption: a line below the table.

    Raises:
        ValueError: no row has one of the `columns`.

    Example:
        >>> rows = [{"term": "diagonal", "survival": 1.2e-16}, {"term": "remainder", "survival": 0.5}]
        >>> print(format_table(rows))
        term       survival
        ───────────────────
        diagonal    1.2e-16
        remainder     0.500
    """
    known = column_names(rows)
    names = known if columns is None else list(columns)
    unknown = [name for name in names if name not in known]
    if unknown and rows:
        raise ValueError(f"no row has the column {unknown[0]!r}; the columns are {', '.join(known)}")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        numeric = all(is_number(row[name]) for row in rows if row.get(name) is not None)
        justify, max_width = ("right", None) if numeric else ("left", _TEXT_WIDTH)
        table.add_column(_broken(name), justify=justify, max_width=max_width, overflow="fold", vertical="top")
    for row in rows:
        table.add_row(*(format_value(row[name]) if name in row else "" for name in names))
    text = StringIO()
    # In a notebook rich would show the table itself rather than write it into the text.
    console = Console(
        file=text, width=_UNLIMITED, color_system=None, force_terminal=False, force_jupyter=False, markup=False
    )
    console.print(table)
    lines = [line.rstrip() for line in text.getvalue().rstrip("\n").splitlines()]
    note_width = max(80, *map(len, lines)) if lines else 80
    return "\n".join([*wrap(title or "", note_width), *lines, *wrap(caption or "", note_width)])


def counted(words: Iterable[str]) -> str:
    """Return how often each word comes, in the order of first appearance.

    Example:
        >>> counted(["partly", "reproduced", "partly"])
        '2 partly, 1 reproduced'
    """
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items())


def format_value(value: Any) -> str:
    """Return a cell's text: three significant digits, two for numbers below 1e-3, and words for the rest.

    Example:
        >>> [format_value(value) for value in (0.0, 1.0, 0.12345, 12345.6, 1.23e-16, 4.5e7)]
        ['0', '1.00', '0.123', '12346', '1.2e-16', '4.50e+07']
        >>> [format_value(value) for value in (2048, True, None, "gradient")]
        ['2048', 'yes', '–', 'gradient']
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    size = abs(value)
    if size == 0:
        return "0"
    if not math.isfinite(value):
        return str(value)
    if size < 1e-3:
        return f"{value:.1e}"
    if size < 999.5:
        return f"{value:#.3g}".rstrip(".")
    return f"{value:.0f}" if size < 1e5 else f"{value:.2e}"


def _broken(name: str) -> str:
    """Break a long name after underscores, so that a header is hardly wider than its numbers."""
    lines = [""]
    for piece in re.findall(r"[^_]*_*", name):
        if lines[-1] and len(lines[-1]) + len(piece) > _HEADER_WIDTH:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def is_number(value: Any) -> bool:
    """Return whether a cell is a number, which truth values are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)
