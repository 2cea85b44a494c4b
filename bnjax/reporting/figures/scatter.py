"""Where do rows lie in the plane, class by class? Panels of points, each drawn as the number of its class."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnjax.reporting.figures.canvas import FAINT, INK, STYLE, distinct, framed
from bnjax.reporting.records import Row

# Ten colours that the colour-blind tell apart (P. Tol, "muted"), its pale grey darkened to be read on white.
CLASS_COLORS = (
    "#332288",
    "#cc6677",
    "#117733",
    "#88ccee",
    "#882255",
    "#999933",
    "#44aa99",
    "#aa4499",
    "#ddaa33",
    "#777777",
)


def scatter(
    rows: Sequence[Row],
    *,
    x: str,
    y: str,
    label: str,
    line: str,
    column: str,
    title: str,
    caption: str,
    x_label: str | None = None,
    y_label: str | None = None,
    notes: Mapping[tuple[Any, Any], str] | None = None,
) -> Figure:
    """Draw points in panels, one for each pair of names; a point is the number of its class, coloured by it.

    Every panel has its own scale and no ticks: it is for places that have no unit.

    Args:
        rows: rows with the keys below.
        x: the key of the horizontal place.
        y: the key of the vertical place.
        label: the key of the class, a whole number from 0 on.
        line: the key that names the lines of panels.
        column: the key that names the columns of panels.
        title: the statement or question of the figure.
        caption: the line below it.
        x_label: what the horizontal axes show; `x` if None.
        y_label: what the vertical axes show; `y` if None.
        notes: a second line for the title of a panel, by its names of line and column.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("scatter needs at least one row")
    lines, columns = distinct(rows, line), distinct(rows, column)
    with mpl.rc_context({**STYLE, "axes.spines.top": True, "axes.spines.right": True, "axes.edgecolor": FAINT}):
        size = (0.6 + 3.4 * len(columns), 1.2 + 3.5 * len(lines))
        figure, axes = framed(size, title, caption, len(lines), len(columns), rows=rows)
        for axis, (line_name, column_name) in zip(axes, [(a, b) for a in lines for b in columns], strict=True):
            own = [row for row in rows if (row[line], row[column]) == (line_name, column_name)]
            _draw_classes(axis, own, x, y, label)
            note = (notes or {}).get((line_name, column_name), "")
            axis.set_title(f"{column_name}, {line_name}\n{note}".rstrip(), loc="left", color=INK)
            axis.set(xticks=[], yticks=[])
        for axis in axes[-len(columns) :]:
            axis.set_xlabel(x_label or x)
        for axis in axes[:: len(columns)]:
            axis.set_ylabel(y_label or y)
    return figure


def _draw_classes(axis: Axes, rows: Sequence[Row], x: str, y: str, label: str) -> None:
    classes = np.array([row[label] for row in rows])
    places = np.array([[row[x], row[y]] for row in rows], dtype=float)
    for number in np.unique(classes):
        axis.plot(
            *places[classes == number].T,
            linestyle="none",
            marker=f"${number}$",
            markersize=5.0,
            markeredgewidth=0.2,
            color=CLASS_COLORS[number % len(CLASS_COLORS)],
        )
