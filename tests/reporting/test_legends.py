"""Legends leave room for titles and captions, whatever their widths, and show what is drawn."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from bnjax.reporting.figures import boxes_on_images, dots, lines, survival_bars

NAMES = [f"post_shifted_batch_norm of the {index}th layer, fine tuned" for index in range(7)]
ROWS = [
    {"name": name, "x": x, "y": 0.5, "panel": panel, "term": "gradient"}
    for name in NAMES
    for x in (0, 1)
    for panel in ("sgd", "adam")
]
LONG: dict[str, Any] = {"title": "How margins are distributed at the largest rate " * 3, "caption": "few rows " * 40}
SCORED = {"image": 0, "label": "1", "score": 0.5, "x0": 1, "y0": 1, "x1": 3, "y1": 3}
FIGURES = {
    "lines": lambda: lines(ROWS, x="x", y="y", series="name", **LONG),
    "panels": lambda: lines(ROWS, x="x", y="y", series="name", panels="panel", **LONG),
    "bars": lambda: survival_bars(
        [{**row, "survival": row["y"]} for row in ROWS if row["x"]], by="name", panels="panel", **LONG
    ),
    "dots": lambda: dots(ROWS, name="panel", value="y", series="name", **LONG),
    "boxes": lambda: boxes_on_images(np.zeros((3, 8, 8, 1)), [SCORED], {"found": [SCORED], "also": []}, **LONG),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_wide_legend_stands_on_no_title_no_caption_and_no_axes(name):
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    (legend,) = figure.findobj(Legend)
    texts = [text for text in figure.texts if text.get_text()]
    assert len(texts) == 2
    boxes = [text.get_window_extent() for text in texts] + [axis.get_window_extent() for axis in figure.axes]
    assert not any(legend.get_window_extent().overlaps(box) for box in boxes)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert figure.bbox.x1 >= legend.get_window_extent().x1


def test_a_line_that_is_zero_to_rounding_throughout_is_hollow_in_the_legend_as_well():
    rows = [
        {"step": step, "moved": moved, "by": by} for step in range(60) for by, moved in (("live", 0), ("frozen", 1))
    ]
    axis = lines(rows, x="step", y="moved", series="by", log_y=True, floor=1e-17, title="t", caption="c").axes[0]
    (legend,) = axis.findobj(Legend)
    live, frozen = legend.findobj(Line2D)
    assert (live.get_markerfacecolor(), frozen.get_markerfacecolor() == frozen.get_color()) == ("white", True)
    marks = next(line for line in axis.lines if line.get_linestyle() == "None")
    assert len(np.asarray(marks.get_xdata())) == 15


def test_a_line_that_the_last_panel_lacks_is_filled_in_the_legend():
    rows = [{"x": x, "y": 1.0, "by": by, "panel": panel} for x in (1, 2) for by, panel in ("aa", "ab", "ba")]
    figure = lines(rows, x="x", y="y", series="by", panels="panel", title="t", caption="c")
    (legend,) = figure.findobj(Legend)
    assert [line.get_markerfacecolor() == line.get_color() for line in legend.findobj(Line2D)] == [True, True]


def test_an_only_place_is_the_only_tick():
    axis = lines([{"step": 5, "moved": 0.1}], x="step", y="moved", title="t", caption="c").axes[0]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["5"]


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_dots_of_one_name_do_not_hide_another(count):
    rows = [{"name": name, "term": str(term), "value": 1.0} for name in "ab" for term in range(count)]
    figure = dots(rows, name="name", value="value", series="term", title="t", caption="c")
    figure.draw_without_rendering()
    (axis,) = figure.axes
    drawn = [line for line in axis.lines if line.get_marker() != "None" and len(np.asarray(line.get_ydata()))]
    heights = np.sort(np.concatenate([axis.transData.transform(line.get_xydata())[:, 1] for line in drawn]))
    assert len(heights) == 2 * count
    assert np.diff(heights).min() > 6 * figure.dpi / 72  # A marker's 6 points.
