"""How do a few numbers compare, name by name? A line for each name, a dot for each number."""

import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from bnjax.reporting.figures.canvas import COLORS, INK, MARKERS, STYLE, distinct, framed, legend, power
from bnjax.reporting.records import Row


def dots(
    rows: Sequence[Row],
    *,
    name: str,
    value: str,
    series: str,
    title: str,
    caption: str,
    name_label: str | None = None,
    value_label: str | None = None,
    floor: float | None = None,
) -> Figure:
    """Draw numbers, one line a name, on a logarithmic axis that begins at a floor or on a linear one.

    Args:
        rows: rows with the keys below.
        name: the key that names the lines.
        value: the key of the number.
        series: the key that tells the dots of a line apart.
        title: the statement or question of the figure.
        caption: the line below it.
        name_label: what the lines are; `name` if None.
        value_label: what the axis measures, with its unit; `value` if None.
        floor: the lower end of a logarithmic axis; a number at or below it is drawn hollow at it. None: a linear axis
            with a line at 0.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("dots needs at least one row")
    names = distinct(rows, name)
    lowest = -math.inf if floor is None else floor
    at_floor = any(row[value] <= lowest for row in rows)
    with mpl.rc_context(STYLE):
        keys = distinct(rows, series)
        # Dots of one name stand below one another, further apart than they are high unless there are very many names.
        inches, step = max(0.28, min(0.13 * len(keys), 12 / len(names))), 0.75 / len(keys)
        figure, (axis,) = framed((9.0, 1.8 + inches * len(names)), title, caption, rows=rows)
        axis.set_xscale("linear" if floor is None else "log")
        for index, key in enumerate(keys):
            look = {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)], "markersize": 6}
            own = [row for row in rows if row[series] == key]
            for hollow in (False, True):
                part = [row for row in own if (row[value] <= lowest) == hollow]
                axis.plot(
                    [max(row[value], lowest) for row in part],
                    [names.index(row[name]) + step * (index - (len(keys) - 1) / 2) for row in part],
                    linestyle="none",
                    markeredgecolor=INK,
                    markeredgewidth=0.6,
                    **(look | ({"markerfacecolor": "white"} if hollow else {"label": str(key)})),
                )
        axis.axvline(0 if floor is None else floor, color="0.45", linestyle=":", linewidth=1)
        axis.set_yticks(range(len(names)), [str(key) for key in names], fontsize=8)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.xaxis.grid(visible=True)
        axis.set_xlabel(f"{value_label or value}{f' (hollow: at most {power(lowest)})' if at_floor else ''}")
        axis.set_ylabel(name if name_label is None else name_label)
        legend(axis)
    return figure
