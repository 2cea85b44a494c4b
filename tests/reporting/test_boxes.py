"""Boxes are drawn around their pixels, in every name's images, and what was found says how likely it is."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from bnjax.reporting.figures import boxes_on_images

IMAGES = np.zeros((2, 8, 8, 1))
THERE = [{"image": 0, "label": 3, "x0": 1, "y0": 2, "x1": 5, "y1": 7}]
FOUND = {"batch_norm": [{**THERE[0], "x1": 6, "score": 0.75}], "identity": []}


def drawn(axis):
    boxes = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    return [(*box.get_xy(), box.get_width(), box.get_height()) for box in boxes]


def test_boxes_lie_around_their_pixels_with_label_and_score_of_what_was_found():
    figure = boxes_on_images(IMAGES, THERE, FOUND, title="title", caption="caption")
    first, empty, other, _ = figure.axes
    assert drawn(first) == [(0.5, 1.5, 4, 5), (0.5, 1.5, 5, 5)]
    assert drawn(other) == [(0.5, 1.5, 4, 5)]
    assert drawn(empty) == []
    assert [text.get_text() for text in first.texts] == ["3  0.75"]
    assert [axis.get_ylabel() for axis in (first, other)] == ["batch\nnorm", "identity"]


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="needs images and names, got 0 and 2"):
        boxes_on_images([], THERE, FOUND, title="title", caption="caption")
