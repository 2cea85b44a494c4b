"""Grids and dots show every number they are given, and what is missing or zero as such."""

import numpy as np
import pytest

from bnjax.reporting.figures import dots, grid

ROWS = [
    {"normalizer": "batch_norm", "order": 1, "survival": 4e-16, "spread": 1e-16, "reason": ""},
    {"normalizer": "batch_norm", "order": 2, "survival": 0.9, "spread": 0.1, "reason": ""},
    {"normalizer": "identity", "order": 1, "survival": 1.0, "spread": 0.0, "reason": ""},
    {"normalizer": "identity", "order": 2, "survival": None, "spread": None, "reason": "no gradient"},
]


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_grid_writes_zero_missing_and_spread_into_the_cells():
    figure = grid(
        ROWS,
        line="normalizer",
        column="order",
        value="survival",
        spread="spread",
        title="title",
        caption="caption",
    )
    assert texts(figure) == ["0", "0.90 ± 0.10", "1.00 ± 0.00", "n/a"]


def test_dots_draw_a_value_at_the_floor_hollow_on_it():
    rows = [{"name": "T1", "value": 1e-15, "what": "error"}, {"name": "F1", "value": 0.0, "what": "error"}]
    figure = dots(rows, name="name", value="value", series="what", title="t", caption="c", floor=1e-18)
    points = [tuple(np.asarray(line.get_xdata(), float)) for line in figure.axes[0].get_lines()[:2]]
    assert points == [(1e-15,), (1e-18,)]


def test_dots_without_a_floor_have_numbers_of_either_sign_and_a_line_at_0():
    rows = [{"name": "a", "value": -0.5, "what": "ours"}, {"name": "b", "value": 0.25, "what": "ours"}]
    axis = dots(rows, name="name", value="value", series="what", title="t", caption="c").axes[0]
    ours, _, line = axis.get_lines()
    assert axis.get_xscale() == "linear"
    assert np.asarray(ours.get_xdata()).tolist() == [-0.5, 0.25]
    assert np.asarray(line.get_xdata()).tolist() == [0, 0]
    assert axis.get_xlabel() == "value"


@pytest.mark.parametrize("draw", [grid, dots])
def test_nothing_to_draw_is_an_error(draw):
    keys = {"line": "a", "column": "b"} if draw is grid else {"name": "a", "series": "b", "floor": 1.0}
    with pytest.raises(ValueError, match="at least one row"):
        draw([], value="c", title="t", caption="c", **keys)
