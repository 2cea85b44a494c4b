"""How much of what a detector finds is there, and how much of what is there does it find? COCO's average precision."""

import io
from contextlib import redirect_stdout
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bnjax.models.detection import Detections


class AveragePrecision(NamedTuple):
    """Average precision, from 0 to 1: the mean of the precision over recalls 0, 0.01, …, 1, and over classes.

    Attributes:
        ap: its mean over the intersections over union 0.5, 0.55, …, 0.95 from which on a box is right.
        ap50: of boxes that are right from 0.5 on.
    """

    ap: float
    ap50: float


def average_precision(
    found: Detections, boxes: Float[np.ndarray, "n objects 4"], labels: Int[np.ndarray, "n objects"]
) -> AveragePrecision:
    """Return COCO's average precision of detections, by its own evaluation (pycocotools, arXiv 1405.0312).

    Of a class only images' first 100 detections count; classes without an object do not.

    Args:
        found: what was found in n images.
        boxes: what is there, (x0, y0, x1, y1) in pixels.
        labels: their classes; -1 where there is no object.

    Raises:
        ValueError: detections of another number of images, no object in any, boxes that are none, scores that are not
            finite.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if len(found.scores) != len(labels) or not (labels >= 0).any():
        raise ValueError(
            f"average precision needs detections of the {len(labels)} images and an object in some, got those of "
            f"{len(found.scores)} and {np.sum(labels >= 0)} objects"
        )
    for what, given in (("found", np.asarray(found.boxes)[np.asarray(found.scores) > 0]), ("true", boxes[labels >= 0])):
        if not (np.isfinite(given).all() and (given[:, :2] <= given[:, 2:]).all()):
            raise ValueError(f"every {what} box needs to be finite (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1")
    if not np.isfinite(np.asarray(found.scores)).all():
        raise ValueError("scores need to be finite, got NaN or infinity; did the detector diverge?")
    images, places = np.nonzero(np.asarray(found.scores) > 0)
    if not len(images):
        return AveragePrecision(0.0, 0.0)
    own = (np.asarray(part)[images, places] for part in found)
    found_boxes, scores, classes = own
    rows = np.column_stack([images, _with_sides(found_boxes), scores, classes]).astype(float)
    with redirect_stdout(io.StringIO()):  # It tells of every step.
        truth: Any = COCO()
        truth.dataset = _dataset(boxes, labels)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, np.inf]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]  # (IoU, recall, class, area, detections); -1 of classes without an object.
    return AveragePrecision(*(float(np.mean(part[part >= 0])) for part in (precision, precision[0])))


def _dataset(boxes: np.ndarray, labels: np.ndarray) -> dict[str, list[dict]]:
    """Return boxes in COCO's form; numbers of annotations begin with 1, for 0 means none there."""
    images, places = np.nonzero(labels >= 0)
    sides, classes = _with_sides(boxes[images, places]).tolist(), labels[images, places].tolist()
    return {
        "images": [{"id": image} for image in range(len(labels))],
        "categories": [{"id": label} for label in sorted(set(classes))],
        "annotations": [
            {"id": number, "image_id": int(image), "category_id": label, "bbox": box}
            | {"area": box[2] * box[3], "iscrowd": 0}
            for number, (image, label, box) in enumerate(zip(images, classes, sides, strict=True), start=1)
        ],
    }


def _with_sides(boxes: np.ndarray) -> np.ndarray:
    """Return (x0, y0, width, height) for (x0, y0, x1, y1)."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=-1)
