"""How do boxes lie to one another, and to a point? Overlaps, and the distances of a point from the four sides.

A box is (x0, y0, x1, y1) in pixels from the image's upper left corner; pixel j reaches from j to j + 1, so that a box
from x0 to x1 holds the pixels x0 … x1 - 1. Arrays are NumPy's or JAX's, and so is what is returned.
"""

from typing import Any

import numpy as np
from jaxtyping import Array, Real

Boxes = Real[Array, "... 4"] | Real[np.ndarray, "... 4"]
Points = Real[Array, "... 2"] | Real[np.ndarray, "... 2"]


def intersection_over_union(boxes: Boxes, others: Boxes) -> Any:
    """Return |A ∩ B| / |A ∪ B| of boxes A and B that broadcast, (..., 4) to (...); 0 if both are empty."""
    shared, union = _shared_and_union(_floating(boxes), _floating(others))
    return shared / _or_one(union)


def generalized_iou(boxes: Boxes, others: Boxes) -> Any:
    """Return |A ∩ B| / |A ∪ B| - (|C| - |A ∪ B|) / |C|, from -1 to 1, where C is the smallest box around A and B.

    It also tells how far apart boxes are that do not meet (arXiv 1902.09630). They broadcast, (..., 4) to (...).
    """
    xp = _library(boxes)
    boxes, others = _floating(boxes), _floating(others)
    shared, union = _shared_and_union(boxes, others)
    around = _product(xp.maximum(boxes[..., 2:], others[..., 2:]) - xp.minimum(boxes[..., :2], others[..., :2]))
    return shared / _or_one(union) - (around - union) / _or_one(around)


def area(boxes: Boxes) -> Any:
    """Return (x1 - x0) (y1 - y0), (..., 4) to (...)."""
    boxes = _floating(boxes)
    return _product(boxes[..., 2:] - boxes[..., :2])


def side_distances(points: Points, boxes: Boxes) -> Any:
    """Return how far points (x, y) are from the left, upper, right and lower sides; inside, all four are positive.

    It is how FCOS encodes a box (arXiv 1904.01355). Points and boxes broadcast, (..., 2) and (..., 4) to (..., 4).
    """
    return _library(boxes).concat([points - boxes[..., :2], boxes[..., 2:] - points], axis=-1)


def boxes_around(points: Points, distances: Boxes) -> Any:
    """Return the boxes whose `side_distances` from the points are these."""
    return _library(distances).concat([points - distances[..., :2], points + distances[..., 2:]], axis=-1)


def _shared_and_union(boxes: Boxes, others: Boxes) -> tuple[Any, Any]:
    xp = _library(boxes)
    sides = xp.minimum(boxes[..., 2:], others[..., 2:]) - xp.maximum(boxes[..., :2], others[..., :2])
    shared = _product(xp.maximum(sides, 0))
    return shared, area(boxes) + area(others) - shared


def _product(sides: Any) -> Any:
    return sides[..., 0] * sides[..., 1]


def _or_one(size: Any) -> Any:
    """Return what may be divided by: 1 in place of 0."""
    return _library(size).where(size > 0, size, 1)


def _floating(boxes: Any) -> Any:
    """Return boxes in float32 at least: areas of whole numbers or in half precision leave their range."""
    return boxes.astype(_library(boxes).promote_types(boxes.dtype, "float32"))


def _library(array: Any) -> Any:
    return array.__array_namespace__()
