"""A detector of objects without anchors, with the normalizer passed in."""

from bnjax.models.detection.assignment import assigned_objects
from bnjax.models.detection.detector import Detector, Predictions
from bnjax.models.detection.loss import detection_loss, recall
from bnjax.models.detection.suppression import Detections, detections, unsuppressed

__all__ = [
    "Detections",
    "Detector",
    "Predictions",
    "assigned_objects",
    "detection_loss",
    "detections",
    "recall",
    "unsuppressed",
]
