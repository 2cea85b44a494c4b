"""Every point stands in its panel as the number of its class."""

from typing import Any

import numpy as np
import pytest

from bnjax.reporting.figures import scatter

ROWS = [
    {"norm": norm, "batches": kind, "x": float(point), "y": float(-point), "class": point % 12}
    for norm in ("none", "batch_norm", "layer_norm")
    for kind in ("random", "single_class")
    for point in range(24)
]
KEYS: dict[str, Any] = {"x": "x", "y": "y", "label": "class", "line": "batches", "column": "norm"}
TEXTS: dict[str, Any] = {"title": "A title", "caption": "24 points", "x_label": "first axis (no unit)"}


def test_there_is_a_panel_for_each_pair_of_names_with_its_note():
    figure = scatter(ROWS, **KEYS, **TEXTS, notes={("single_class", "batch_norm"): "a note"})
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles[:3] == ["none, random", "batch_norm, random", "layer_norm, random"]
    assert titles[4] == "batch_norm, single_class\na note"
    assert [axis.get_xlabel() for axis in figure.axes] == [""] * 3 + ["first axis (no unit)"] * 3
    assert [axis.get_ylabel() for axis in figure.axes] == ["y", "", ""] * 2


def test_classes_differ_by_their_number_beyond_the_number_of_colours():
    for axis in scatter(ROWS, **KEYS, **TEXTS).axes:
        lines = axis.get_lines()
        assert [line.get_marker() for line in lines] == [f"${number}$" for number in range(12)]
        assert len({line.get_color() for line in lines}) == 10
        assert sum(len(np.asarray(line.get_xdata())) for line in lines) == 24


def test_a_pair_of_names_without_points_leaves_its_panel_empty():
    figure = scatter([row for row in ROWS if (row["norm"], row["batches"]) != ("none", "random")], **KEYS, **TEXTS)
    assert sorted(len(axis.get_lines()) for axis in figure.axes) == [0, 12, 12, 12, 12, 12]


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="at least one row"):
        scatter([], **KEYS, **TEXTS)
