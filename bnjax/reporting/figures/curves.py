"""How does one quantity follow another? Lines that differ in their markers, with bands of spread."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bnjax.reporting.figures.canvas import (
    COLORS,
    DASHES,
    FAINT,
    INK,
    MARKERS,
    STYLE,
    distinct,
    framed,
    legend,
    power,
    with_reasons,
)
from bnjax.reporting.records import Row


def lines(
    rows: Sequence[Row],
    *,
    x: str,
    y: str,
    title: str,
    caption: str,
    series: str | None = None,
    spread: str | None = None,
    x_label: str | None = None,
    y_label: str | None = None,
    log_x: bool = False,
    log_y: bool = False,
    floor: float | None = None,
) -> Figure:
    """Draws one quantity against another, a line for each series, with bands of ± ``spread``.

    Rows whose ``y`` is None leave a gap in their line, and their ``reason`` stands below the figure.

    Args:
        rows: Rows with the keys below.
        x: The key of the horizontal axis.
        y: The key of the vertical axis.
        title: The statement or question of the figure.
        caption: The line below it.
        series: The key that tells the lines apart; one line if None.
        spread: The key of the half-width of the band around a line, such as a standard deviation.
        x_label: What the horizontal axis shows, with its unit; the key if None.
        y_label: What the vertical axis shows, with its unit; the key if None.
        log_x: Whether the horizontal axis is logarithmic.
        log_y: Whether the vertical axis is logarithmic.
        floor: What counts as zero to rounding: values of at most ``floor`` are drawn hollow at the floor.

    Raises:
        ValueError: If there are no rows, or a logarithmic axis would have to show a number that is not
            positive.
    """
    if not rows:
        raise ValueError("lines needs at least one row")
    if log_x and any(row[x] <= 0 for row in rows):
        raise ValueError(f"a logarithmic axis needs {x} > 0 in every row")
    if log_y and floor is None and any(row[y] is not None and row[y] <= 0 for row in rows):
        raise ValueError(f"a logarithmic axis needs {y} > 0 in every row; pass floor= for what is zero to rounding")
    with mpl.rc_context(STYLE):
        figure, (axis,) = framed((7.6, 4.4), title, with_reasons(caption, rows, y))
        axis.set_xscale("log" if log_x else "linear")
        axis.set_yscale("log" if log_y else "linear")
        names = distinct(rows, series) if series else [None]
        for index, name in enumerate(names):
            own = sorted((row for row in rows if series is None or row[series] == name), key=lambda row: row[x])
            thickness = 1 - 0.6 * index / len(names)  # Lines that coincide stay visible below one another.
            _line(axis, own, x, y, spread, index, name, floor, thickness)
        if floor is not None:
            axis.axhline(floor, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)))
            axis.annotate(
                f"≤{power(floor)}, zero to rounding (hollow)",
                (1, floor),
                (0, 4),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=8,
                color=FAINT,
            )
        if not log_x and all(float(row[x]).is_integer() for row in rows):
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel(x_label or x)
        axis.set_ylabel(y_label or y)
        axis.grid(visible=True)
        if series:
            legend(figure, axis, series)
    return figure


def _line(
    axis: Axes,
    rows: Sequence[Row],
    x: str,
    y: str,
    spread: str | None,
    index: int,
    name: Any,
    floor: float | None,
    thickness: float,
) -> None:
    """Draws one series, its values at the floor hollow, and the band around it."""
    lowest = -math.inf if floor is None else floor
    places = np.array([row[x] for row in rows], dtype=float)
    values = np.array([math.nan if row[y] is None else row[y] for row in rows], dtype=float)
    shown, hollow = np.maximum(values, lowest), values <= lowest
    color = COLORS[index % len(COLORS)]
    look: dict[str, Any] = {
        "color": color,
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 9 * thickness,
        "markeredgecolor": INK,
        "markeredgewidth": 0.6,
        "markevery": max(1, len(rows) // 15),
    }
    dashes = DASHES[index // len(COLORS) % len(DASHES)]
    axis.plot(
        places,
        shown,
        linestyle=dashes,
        linewidth=3 * thickness,
        label=None if name is None else str(name),
        **look,
    )
    axis.plot(places[hollow], shown[hollow], linestyle="none", markerfacecolor="white", **look)
    if spread is not None:
        width = np.array([row[spread] or 0.0 for row in rows], dtype=float)
        lower, upper = values - width, values + width
        if axis.get_yscale() == "log":  # A band that reaches zero has no lower edge on this axis.
            lower = np.where(lower > 0, lower, shown)
        axis.fill_between(
            places, np.maximum(lower, lowest), np.maximum(upper, lowest), color=color, alpha=0.25, linewidth=0
        )
