"""Which objects does a detector find? The likeliest of its predictions, each object once."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bnjax.boxes import intersection_over_union
from bnjax.models.detection.detector import Predictions


class Detections(NamedTuple):
    """What is found in images, the likeliest first; a score of 0 marks what is not.

    Attributes:
        boxes: (x0, y0, x1, y1) in pixels.
        scores: the probability of the label.
        labels: the class.
    """

    boxes: Float[Array, "n most 4"]
    scores: Float[Array, "n most"]
    labels: Int[Array, "n most"]


def detections(
    predictions: Predictions, *, most: int = 100, least_score: float = 0.05, overlap: float = 0.6
) -> Detections:
    """Return the objects that are found in each image.

    Args:
        predictions: of n images.
        most: so many of the likeliest predictions, of all positions and classes, are looked at.
        least_score: the smallest probability of what is found.
        overlap: as in `unsuppressed`.
    """
    return jax.vmap(partial(_of_image, min(most, predictions.logits[0].size), least_score, overlap))(
        predictions.logits, predictions.boxes
    )


def _of_image(most: int, least_score: float, overlap: float, logits: Array, boxes: Array) -> Detections:
    scores, index = jax.lax.top_k(jax.nn.sigmoid(logits).ravel(), most)
    positions, labels = jnp.divmod(index, logits.shape[-1])
    boxes = boxes[positions]
    kept = unsuppressed(boxes, labels, overlap=overlap) & (scores >= least_score)
    return Detections(boxes, jnp.where(kept, scores, 0.0), labels)


def unsuppressed(boxes: Float[Array, "k 4"], labels: Int[Array, " k"], *, overlap: float) -> Bool[Array, " k"]:
    """Return which boxes non-maximum suppression keeps.

    One after another, each removes those after it that have its label and an intersection over union with it above
    `overlap`, unless it was removed itself.

    Args:
        boxes: the likeliest first.
        labels: their classes.
        overlap: from 0 to 1.
    """
    order = jnp.arange(len(boxes))
    same = (labels[:, None] == labels) & (order[:, None] < order)
    removes = same & (intersection_over_union(boxes[:, None], boxes) > overlap)

    def remove(index: Array, kept: Array) -> Array:
        return kept & ~(removes[index] & kept[index])

    return jax.lax.fori_loop(0, len(boxes), remove, jnp.ones(len(boxes), bool))
