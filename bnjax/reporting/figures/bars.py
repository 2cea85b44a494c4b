"""How much of each term survives? Grouped bars, a group for each term and a bar for each normalizer."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnjax.reporting.figures.canvas import (
    COLORS,
    FAINT,
    HATCHES,
    INK,
    ROUNDING,
    STYLE,
    distinct,
    framed,
    legend,
    power,
    with_reasons,
)
from bnjax.reporting.records import Row
from bnjax.reporting.tables import format_value

# Of an axis, what a bar needs to be seen.
LEAST_HEIGHT = 0.005


def survival_bars(
    rows: Sequence[Row],
    *,
    title: str,
    caption: str,
    by: str = "normalizer",
    panels: str | None = None,
    spread: str | None = None,
    value_label: str = "survival, ‖S Jᵀ G‖ / ‖G‖",
) -> Figure:
    """Draw the survival, or another share, of each term: a group of bars for a term and part, a bar for a normalizer.

    A survival of at most `ROUNDING` is zero to rounding: it becomes a diamond on the axis's foot, labelled as
    such. One too small for the axis to show is a triangle there. A missing survival is marked `n/a` and its
    `reason` stands below the figure.

    Args:
        rows: rows with `term`, `survival` and optionally `part` and `reason`.
        title: the statement or question of the figure.
        caption: the line below it: number of rows, seeds, dtype, data set.
        by: the key that tells the bars of a group apart.
        panels: the key that tells the panels apart, such as `batch`; one panel if None.
        spread: the key of the survival's spread, drawn as a whisker: a number, or how far it reaches below and above;
            none if None.
        value_label: what the axis measures.

    Raises:
        ValueError: there are no rows, or two rows belong to the same bar.
    """
    if not rows:
        raise ValueError("survival_bars needs at least one row")
    bars = _indexed(rows, by, panels)
    terms = distinct(rows, "term")
    groups = sorted(
        dict.fromkeys((row["term"], row.get("part")) for row in rows), key=lambda group: terms.index(group[0])
    )
    series, panel_names = distinct(rows, by), distinct(rows, panels) if panels else [None]
    centers = np.array([index + 0.45 * terms.index(term) for index, (term, _) in enumerate(groups)])
    with mpl.rc_context(STYLE):
        width = 2.2 + 0.26 * len(groups) * (len(series) + 0.7)
        size = (min(14.0, max(5.5, width)), 1.5 + 2.5 * len(panel_names))
        figure, axes = framed(size, title, with_reasons(caption, rows, "survival"), len(panel_names), rows=rows)
        for axis, panel in zip(axes, panel_names, strict=True):
            reach = [None if row["survival"] is None else row["survival"] + _whisker(row, spread)[1] for row in rows]
            _scale_survival(axis, reach)
            for index, name in enumerate(series):
                offset = (index - (len(series) - 1) / 2) * 0.84 / len(series)
                own = [(center, bars.get((panel, *group, name))) for center, group in zip(centers, groups, strict=True)]
                places = np.array([center + offset for center, row in own if row is not None])
                values = [row["survival"] for _, row in own if row is not None]
                whiskers = [_whisker(row, spread) for _, row in own if row is not None]
                _bar_series(axis, places, values, whiskers, index, name, 0.76 / len(series))
            axis.set_title(f"{panels}: {panel}" if panels else "", loc="left", color=INK)
            axis.set_ylabel(value_label)
            axis.set_xlim(centers[0] - 0.6, centers[-1] + 0.6)
            _label_groups(axis, centers, groups)
        legend(axes[0], by)
    return figure


def _indexed(rows: Sequence[Row], by: str, panels: str | None) -> dict[tuple[Any, ...], Row]:
    bars = {}
    for row in rows:
        key = (row[panels] if panels else None, row["term"], row.get("part"), row[by])
        if key in bars:
            raise ValueError(f"two rows belong to the same bar {key}; keep one of them or set panels=")
        bars[key] = row
    return bars


def _whisker(row: Row, spread: str | None) -> tuple[float, float]:
    """Return how far a row's whisker reaches below and above its bar's height."""
    value = (row[spread] if spread else None) or 0.0
    return value if isinstance(value, tuple) else (value, value)


def _scale_survival(axis: Axes, values: Sequence[float | None]) -> None:
    top = max([1.0, *(value for value in values if value is not None)])
    axis.set_ylim(0, top * 1.3)
    axis.axhline(1, color=FAINT, linewidth=0.8, linestyle="--", zorder=0.5)
    axis.yaxis.grid(visible=True)


def _bar_series(
    axis: Axes,
    places: np.ndarray,
    values: Sequence[float | None],
    whiskers: Sequence[tuple[float, float]],
    index: int,
    name: Any,
    width: float,
) -> None:
    """Draw one series: its bars with their values, what has no height as marks on the axis's foot, its gaps as n/a."""
    color, (_, top) = COLORS[index % len(COLORS)], axis.get_ylim()
    heights = [0 if value is None or value <= ROUNDING else value for value in values]
    axis.bar(
        places,
        heights,
        width,
        color=color,
        edgecolor=INK,
        linewidth=0.6,
        hatch=HATCHES[(index + index // len(COLORS)) % len(HATCHES)],
        label=str(name),
    )
    for place, value, height, (below, above) in zip(places, values, heights, whiskers, strict=True):
        zero = value is not None and value <= ROUNDING
        flat = value is not None and value < LEAST_HEIGHT * top
        if above and not zero:
            axis.errorbar(place, height, [[below], [above]], color=INK, linewidth=1, capsize=2)
            height += above
        if zero or flat:
            axis.plot(
                place,
                0,
                marker="D" if zero else "^",
                color=color,
                markersize=6,
                markeredgecolor=INK,
                markeredgewidth=0.6,
                clip_on=False,
                zorder=3,
            )
        text = "n/a" if value is None else f"≤{power(ROUNDING)}" if zero else format_value(float(value))
        axis.annotate(
            text,
            (place, height),
            (0, 6 if zero or flat else 3),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=7,
            color=FAINT if value is None else INK,
        )


def _label_groups(axis: Axes, centers: np.ndarray, groups: Sequence[tuple[str, str | None]]) -> None:
    """Label the parts, if there are several, below the bars, and each term once below its parts."""
    if len({part for _, part in groups}) == 1:
        axis.set_xticks(centers, [term for term, _ in groups])
        axis.tick_params(axis="x", length=0)
        return
    axis.set_xticks(centers, [part or "" for _, part in groups], fontsize=8)
    axis.tick_params(axis="x", length=0)
    for term in dict.fromkeys(term for term, _ in groups):
        own = [center for center, group in zip(centers, groups, strict=True) if group[0] == term]
        axis.annotate(
            term,
            (float(np.mean(own)), 0),
            (0, -19),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="top",
            fontweight="bold",
            color=INK,
        )
