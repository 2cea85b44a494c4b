"""Overlaps of boxes are those of their pixels, and the four distances say exactly where a box is."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnjax.boxes import area, boxes_around, generalized_iou, intersection_over_union, side_distances

SIZE = 12


@st.composite
def boxes(draw):
    x0, y0 = (draw(st.integers(0, SIZE - 1)) for _ in range(2))
    return [x0, y0, draw(st.integers(x0 + 1, SIZE)), draw(st.integers(y0 + 1, SIZE))]


def pixels(box):
    """Return which pixels of a square image a box holds."""
    x0, y0, x1, y1 = box
    held = np.zeros((SIZE, SIZE), bool)
    held[y0:y1, x0:x1] = True
    return held


@given(boxes(), boxes())
def test_overlap_and_its_generalization_are_those_of_counted_pixels(first, other):
    shared, union = np.sum(pixels(first) & pixels(other)), np.sum(pixels(first) | pixels(other))
    around = [*np.minimum(first[:2], other[:2]), *np.maximum(first[2:], other[2:])]
    enclosing = np.sum(pixels(around))
    arrays = np.array(first, float), np.array(other, float)
    assert area(arrays[0]) == np.sum(pixels(first))
    assert intersection_over_union(*arrays) == pytest.approx(shared / union)
    assert generalized_iou(*arrays) == pytest.approx(shared / union - (enclosing - union) / enclosing)


def test_boxes_broadcast_and_stay_of_their_library():
    first, others = np.array([[0.0, 0, 2, 2], [1, 1, 3, 3]]), np.array([[0.0, 0, 2, 2], [5, 5, 6, 6], [0, 0, 1, 2]])
    expected = [[1, 0, 1 / 2], [1 / 7, 0, 0]]
    for library in (np, jnp):
        found = intersection_over_union(library.asarray(first)[:, None], library.asarray(others))
        assert isinstance(found, library.ndarray)
        np.testing.assert_allclose(found, expected)


def test_two_boxes_without_area_overlap_by_nothing():
    empty = np.array([3.0, 3, 3, 3])
    assert intersection_over_union(empty, empty) == 0
    assert generalized_iou(empty, empty) == 0


@given(boxes(), st.floats(0, SIZE), st.floats(0, SIZE))
def test_decoding_inverts_encoding(box, x, y):
    box, point = np.array(box, float), np.array([x, y])
    distances = side_distances(point, box)
    np.testing.assert_allclose(boxes_around(point, distances), box, atol=1e-14 * SIZE)
    assert (distances.min() > 0) == (box[0] < x < box[2] and box[1] < y < box[3])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16"])
def test_boxes_of_few_bits_overlap_as_others_do(dtype):
    side = 240 if dtype == "uint8" else 300
    box, far = np.array([0, 0, side, side], dtype), np.array([side, side, side + 5, side + 5], dtype)
    assert intersection_over_union(box, box) == generalized_iou(box, box) == 1
    assert intersection_over_union(box, far) == 0
    assert area(box) == side**2
