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
    panels: str | None = None,
    spread: str | None = None,
    reference: str | None = None,
    x_label: str | None = None,
    y_label: str | None = None,
    log_x: bool = False,
    log_y: bool = False,
    floor: float | None = None,
) -> Figure:
    """Draw one quantity against another, a line for each series, with bands of ± `spread`.

    Rows whose `y` is None leave a gap in their line, and their `reason` stands below the figure.

    Args:
        rows: rows with the keys below.
        x: the key of the horizontal axis.
        y: the key of the vertical axis.
        title: the statement or question of the figure.
        caption: the line below it.
        series: the key that tells the lines apart; one line if None.
        panels: the key that tells the panels apart, which stand side by side on the same axes; one panel if None.
        spread: the key of the half-width of the band around a line, such as a standard deviation.
        reference: the key of what `y` is compared with, drawn beside each line, dashed and without a marker.
        x_label: what the horizontal axis shows, with its unit; the key if None. An only value is its only tick.
        y_label: what the vertical axis shows, with its unit; the key if None.
        log_x: whether the horizontal axis is logarithmic; if a value is 0, from 1 on only, with a tick at every value.
        log_y: whether the vertical axis is logarithmic.
        floor: what counts as zero to rounding: values of at most `floor` are drawn hollow at the floor.

    Raises:
        ValueError: there are no rows, or a logarithmic axis would have to show a number that is negative, or
            one of `y` that is 0.
    """
    if not rows:
        raise ValueError("lines needs at least one row")
    if log_x and any(row[x] < 0 for row in rows):
        raise ValueError(f"a logarithmic axis needs {x} >= 0 in every row")
    if log_y and floor is None and any(row[y] is not None and row[y] <= 0 for row in rows):
        raise ValueError(f"a logarithmic axis needs {y} > 0 in every row; pass floor= for what is zero to rounding")
    names = distinct(rows, series) if series else [None]
    panel_names = distinct(rows, panels) if panels else [None]
    with mpl.rc_context(STYLE):
        size = (4.6 + 3.0 * len(panel_names), 4.4)
        figure, axes = framed(size, title, with_reasons(caption, rows, y), columns=len(panel_names), rows=rows)
        for axis, panel in zip(axes, panel_names, strict=True):
            axis.sharey(axes[0])
            axis.tick_params(which="both", labelleft=axis is axes[0])
            axis.set_yscale("log" if log_y else "linear")
            _scale_places(axis, [row[x] for row in rows], log_x)
            for index, name in enumerate(names):
                own = [row for row in rows if (series is None or row[series] == name) and _is_in(row, panels, panel)]
                thickness = 1 - 0.6 * index / len(names)  # Lines that coincide stay visible below one another.
                own = sorted(own, key=lambda row: row[x])
                _line(axis, own, x, y, spread, index, name, floor, thickness)
                if reference is not None:
                    places, values = [row[x] for row in own], [row[reference] for row in own]
                    axis.plot(places, values, color=INK, linestyle="--", linewidth=1)
            axis.set_title(f"{panels}: {panel}" if panels else "", loc="left", color=INK)
            axis.set_xlabel(x_label or x)
            axis.grid(visible=True)
            if floor is not None:
                axis.axhline(floor, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)))
        at_floor = "" if floor is None else f"\n(hollow: at most {power(floor)}, zero to rounding)"
        axes[0].set_ylabel(f"{y_label or y}{at_floor}")
        if series:
            legend(axes[-1], series)
    return figure


def _is_in(row: Row, panels: str | None, panel: Any) -> bool:
    return panels is None or row[panels] == panel


def _scale_places(axis: Axes, places: Sequence[float], log: bool) -> None:
    ticks = sorted(set(places))
    if log and ticks[0] == 0:
        axis.set_xscale("symlog", base=2, linthresh=1)
        axis.set_xticks(ticks, [f"{place:g}" for place in ticks])
    elif len(ticks) == 1:
        axis.set_xticks(ticks, [f"{ticks[0]:g}"])
    elif log:
        axis.set_xscale("log")
    else:
        integer = all(float(place).is_integer() for place in places)
        # So few, and without quarters, that the labels stand apart.
        axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=integer))


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
    """Draw one series, its values at the floor hollow, and the band around it."""
    lowest = -math.inf if floor is None else floor
    places, every = np.array([row[x] for row in rows], dtype=float), max(1, len(rows) // 15)
    values = np.array([math.nan if row[y] is None else row[y] for row in rows], dtype=float)
    shown, hollow = np.maximum(values, lowest), values <= lowest
    color = COLORS[index % len(COLORS)]
    look: dict[str, Any] = {
        "color": color,
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 9 * thickness,
        "markeredgecolor": INK,
        "markeredgewidth": 0.6,
    }
    white: dict[str, Any] = look | {"markerfacecolor": "white"}
    dashes = DASHES[index // len(COLORS) % len(DASHES)]
    axis.plot(
        places,
        shown,
        linestyle=dashes,
        linewidth=3 * thickness,
        label=None if name is None else str(name),
        markevery=np.flatnonzero(~hollow[::every]) * every,
        **(white if rows and hollow.all() else look),  # As the legend shows it.
    )
    thinned = slice(None, None, max(1, hollow.sum() // 15))
    axis.plot(places[hollow][thinned], shown[hollow][thinned], linestyle="none", **white)
    if spread is not None:
        width = np.array([row[spread] or 0.0 for row in rows], dtype=float)
        lower, upper = values - width, values + width
        if axis.get_yscale() == "log":  # A band that reaches zero has no lower edge on this axis.
            lower = np.where(lower > 0, lower, shown)
        axis.fill_between(
            places, np.maximum(lower, lowest), np.maximum(upper, lowest), color=color, alpha=0.25, linewidth=0
        )
