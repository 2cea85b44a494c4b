"""How good are a detector's predictions? As a loss to be trained with, and as a score, one number an image."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bnjax.boxes import generalized_iou, intersection_over_union
from bnjax.models.detection.assignment import assigned_objects
from bnjax.models.detection.detector import Predictions


def detection_loss(
    predictions: Predictions, targets: Float[Array, "n objects 5"], *, radius: float
) -> Float[Array, " n"]:
    """Return (Σ focal(logits) + Σ_assigned (1 - generalized IoU)) / max(1, number of assigned positions) of each image.

    With p the probability of what is true of a class at a position, focal is -α (1 - p)² log p, where α = ¼ for the
    class of the assigned object and ¾ for all else (arXiv 1708.02002); the sum goes over positions and classes. The
    second sum goes over the positions with an object (`assigned_objects`), of their boxes and the object's (arXiv
    1902.09630).

    Args:
        predictions: of n images.
        targets: as in `assigned_objects`, of each image.
        radius: as in `assigned_objects`.
    """

    def of_image(logits: Array, boxes: Array, targets: Array) -> Array:
        found = assigned_objects(predictions.centres, targets, radius=radius)
        positive, true = found >= 0, targets[found]
        classes = jax.nn.one_hot(jnp.where(positive, true[:, 0], -1).astype(int), logits.shape[-1])
        focal = optax.sigmoid_focal_loss(logits, classes, alpha=0.25, gamma=2.0)
        apart = jnp.where(positive, 1 - generalized_iou(boxes, true[:, 1:]), 0.0)
        return (jnp.sum(focal) + jnp.sum(apart)) / jnp.maximum(1, jnp.sum(positive))

    return jax.vmap(of_image)(predictions.logits, predictions.boxes, targets)


def recall(predictions: Predictions, targets: Float[Array, "n objects 5"]) -> Float[Array, " n"]:
    """Return the share of each image's objects that are found: 0 where there is none.

    An object is found if at some position its class has a probability above ½ and the box an IoU of at least ½ with its
    own. Positions that find nothing cost nothing: `bnjax.measurements.average_precision` counts these too.

    Args:
        predictions: of n images.
        targets: as in `assigned_objects`, of each image.
    """

    def of_image(logits: Array, boxes: Array, targets: Array) -> Array:
        labels, true = targets[:, 0].astype(int), targets[:, 1:]
        right = (jnp.take(logits, labels, axis=1) > 0) & (intersection_over_union(boxes[:, None], true) >= 0.5)
        there = labels >= 0
        return jnp.sum(jnp.any(right, axis=0) & there) / jnp.maximum(1, jnp.sum(there))

    return jax.vmap(of_image)(predictions.logits, predictions.boxes, targets)
