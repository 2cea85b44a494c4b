"""How does one number depend on two names? A grid of cells, each with its number."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bnjax.reporting.figures.canvas import INK, ROUNDING, STYLE, distinct, framed, with_reasons
from bnjax.reporting.records import Row


def grid(
    rows: Sequence[Row],
    *,
    line: str,
    column: str,
    value: str,
    title: str,
    caption: str,
    spread: str | None = None,
    column_label: str | None = None,
    value_label: str | None = None,
) -> Figure:
    """Draw a number for each pair of names as a cell, the darker the larger up to 1, with the number in it.

    A value of at most `ROUNDING` is labelled `0`; a missing one `n/a`, its reason below the figure.

    Args:
        rows: rows with the keys below.
        line: the key that names the grid's lines.
        column: the key that names its columns.
        value: the key of the number.
        title: the statement or question of the figure.
        caption: the line below it.
        spread: the key of the number's spread, written beside it.
        column_label: what the columns are; `column` if None.
        value_label: what the colour measures, with its unit; `value` if None.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("grid needs at least one row")
    lines, columns = distinct(rows, line), distinct(rows, column)
    cells = np.full((len(lines), len(columns)), np.nan)
    with mpl.rc_context({**STYLE, "axes.spines.left": False, "axes.spines.bottom": False}):
        size = (3.6 + 1.15 * len(columns), 1.6 + 0.36 * len(lines))
        figure, (axis,) = framed(size, title, with_reasons(caption, rows, value), rows=rows)
        for row in rows:
            place = lines.index(row[line]), columns.index(row[column])
            cells[place] = np.nan if row[value] is None else row[value]
            dark = row[value] is not None and row[value] > 0.5
            text = _cell_text(row[value], row[spread] if spread else None)
            axis.text(*place[::-1], text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
        image = axis.imshow(cells, cmap="Greys", vmin=0, vmax=1.15, aspect="auto")
        axis.set_xticks(range(len(columns)), [str(name) for name in columns])
        axis.set_yticks(range(len(lines)), [str(name) for name in lines])
        axis.tick_params(length=0)
        axis.set_xlabel(column_label or column, color=INK)
        axis.set_ylabel(line, color=INK)
        figure.colorbar(image, ax=axis, label=value_label or value, pad=0.02, extend="max")
    return figure


def _cell_text(value: float | None, spread: float | None) -> str:
    if value is None:
        return "n/a"
    if value <= ROUNDING:
        return "0"
    return f"{value:.2f}" if spread is None else f"{value:.2f} ± {spread:.2f}"
