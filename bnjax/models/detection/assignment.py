"""Which object is a position of the detector's output to find?"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bnjax.boxes import area, side_distances


def assigned_objects(
    centres: Float[Array, "positions 2"], targets: Float[Array, "objects 5"], *, radius: float
) -> Int[Array, " positions"]:
    """Return the row of each position's object in `targets`, -1 for none.

    It is the smallest of those whose box the position lies in and whose centre is nearer than `radius`, in x and in y
    (FCOS with sampling at centres, arXiv 1904.01355). An object in whose box no position lies is nobody's.

    Args:
        centres: the positions, (x, y) in pixels.
        targets: label and box (x0, y0, x1, y1) of each object; the label is -1 where there is none.
        radius: in pixels.
    """
    labels, boxes = targets[:, 0], targets[:, 1:]
    inside = jnp.min(side_distances(centres[:, None], boxes), axis=-1) > 0
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = jnp.max(jnp.abs(centres[:, None] - middles), axis=-1) < radius
    sizes = jnp.where(inside & near & (labels >= 0), area(boxes), jnp.inf)
    return jnp.where(jnp.min(sizes, axis=-1) < jnp.inf, jnp.argmin(sizes, axis=-1), -1)
