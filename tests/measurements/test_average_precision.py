"""Average precision is 1 for what is there, and falls as it can be counted by hand."""

from typing import Any

import numpy as np
import pytest

from bnjax.measurements import average_precision
from bnjax.models.detection import Detections

BOXES = np.array([[[0.0, 0, 10, 10], [20, 20, 40, 30]], [[5, 5, 15, 25], [0, 0, 0, 0]]])
LABELS = np.array([[0, 2], [2, -1]])


def detected(boxes: Any, scores: Any, labels: Any) -> Detections:
    return Detections(boxes, scores, labels)


def found(boxes=BOXES, labels=LABELS, scores=None):
    """Return detections of what is there, likely where there is something."""
    return detected(boxes, np.where(LABELS >= 0, 0.9, 0.0) if scores is None else scores, labels)


def test_perfect_detections_have_precision_1_and_nothing_is_printed(capsys):
    assert average_precision(found(), BOXES, LABELS) == pytest.approx((1, 1))
    assert capsys.readouterr().out == ""


def test_nothing_found_has_precision_0():
    assert average_precision(found(scores=np.zeros((2, 2))), BOXES, LABELS) == (0, 0)


def test_wrong_labels_have_precision_0():
    assert average_precision(found(labels=np.array([[2, 0], [0, 0]])), BOXES, LABELS) == (0, 0)


def test_a_box_that_is_too_large_is_right_up_to_its_overlap():
    # The first box, alone of its class, at an IoU of 10/15: right at 0.5, 0.55, 0.6 and 0.65 of ten thresholds.
    boxes = BOXES.copy()
    boxes[0, 0, 2] = 15
    ap, ap50 = average_precision(found(boxes), BOXES, LABELS)
    assert ap50 == pytest.approx(1)
    assert ap == pytest.approx((0.4 + 1) / 2)


def test_a_missing_object_takes_the_recalls_that_are_not_reached():
    # Of the two of class 2 one is found: precision 1 at recalls 0, 0.01, …, 0.5, which are 51 of 101.
    scores = np.array([[0.9, 0.9], [0.0, 0.0]])
    ap, ap50 = average_precision(found(scores=scores), BOXES, LABELS)
    assert ap == ap50 == pytest.approx((1 + 51 / 101) / 2)


def test_a_likelier_false_detection_halves_the_precision_and_a_less_likely_one_costs_nothing():
    one, two = np.array([[[0.0, 0, 10, 10]]]), np.array([[[30.0, 30, 40, 40], [0, 0, 10, 10]]])
    for scores, expected in (([[0.9, 0.8]], 0.5), ([[0.7, 0.8]], 1.0)):
        made = detected(two, np.array(scores), np.zeros((1, 2), int))
        assert average_precision(made, one, np.zeros((1, 1), int)).ap == pytest.approx(expected)


def test_other_images_or_no_objects_are_refused():
    with pytest.raises(ValueError, match="of the 1 images and an object in some, got those of 2"):
        average_precision(found(), BOXES[:1], LABELS[:1])
    with pytest.raises(ValueError, match="an object in some, got those of 2 and 0 objects"):
        average_precision(found(), BOXES, np.full((2, 2), -1))


@pytest.mark.parametrize("what", ["not finite", "upside down"])
def test_boxes_that_are_none_and_scores_that_are_not_finite_are_refused(what):
    wrong = np.where(BOXES > 20, np.nan, BOXES) if what == "not finite" else BOXES[..., [2, 1, 0, 3]]
    with pytest.raises(ValueError, match="every true box needs to be finite"):
        average_precision(found(), wrong, LABELS)
    with pytest.raises(ValueError, match="every found box needs to be finite"):
        average_precision(found(wrong), BOXES, LABELS)
    with pytest.raises(ValueError, match="scores need to be finite"):
        average_precision(found(scores=np.full((2, 2), np.nan)), BOXES, LABELS)
