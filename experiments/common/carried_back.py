"""How much of a gradient's three parts gets back through one normalizer, and is that what theory says?

The gradient G at the standardized features ŷ is split, feature by feature over rows and positions, into its mean, its
part along ŷ and the rest. Each part is carried back by J, the standardization's derivative.

Survival is ‖Jᵀ part‖ / ‖part / s‖ over all features, with s = √(σ² + ε) what a feature is divided by. In theory it is 0
for the mean, ε / (σ² + ε) in each feature for the part along ŷ, and 1 for the rest (docs/theory.md, T7). Dead features,
which do not vary over the batch, are left out at ε = 0.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bnjax.measurements import GradientParts, gradient_parts
from bnjax.normalizers import Normalizer
from bnjax.normalizers.moments import batch_axes, moments
from experiments.common.live_features import live_features


class CarriedBack(NamedTuple):
    """The three `GradientParts` at one normalizer, in their order; all norms are those of single features.

    Attributes:
        norms: ‖part‖.
        sent: ‖part / s‖, with s what a feature is divided by.
        arriving: ‖Jᵀ part‖.
        variance: σ².
    """

    norms: Float[Array, "3 features"]
    sent: Float[Array, "3 features"]
    arriving: Float[Array, "3 features"]
    variance: Float[Array, " features"]


@partial(jax.jit, static_argnums=0)
def carried_back(
    normalizer: Normalizer, features: Float[Array, "n ..."], gradient: Float[Array, "n ..."]
) -> CarriedBack:
    """Split the gradient at a normalizer's standardized output and carry each part back through the standardization."""
    axes = batch_axes(features, normalizer.feature_axis)
    _, stats = normalizer.init(features)

    def standardize(x: Array) -> tuple[Array, Array]:
        return normalizer.standardize(stats, x, mode="batch", key=None)[0]

    standardized, pull_back, scale = jax.vjp(standardize, features, has_aux=True)
    parts = jnp.stack(gradient_parts(gradient, standardized, axes))
    arriving = jax.vmap(lambda part: pull_back(part)[0])(parts)

    def norms(parts: Array) -> Array:
        return jnp.sqrt(jnp.sum(parts**2, tuple(1 + axis for axis in axes)))

    return CarriedBack(norms(parts), norms(parts / scale), norms(arriving), moments(features, axes).variance.ravel())


def part_rows(measured: CarriedBack, epsilon: float) -> list[dict[str, Any]]:
    """Return a row for every part, over all features of a batch normalization but the dead ones at `epsilon` = 0.

    A part of which there is nothing has no survival.
    """
    variance = np.asarray(measured.variance, float)
    alive = np.asarray(live_features(np.sqrt(variance)))
    kept = alive | (epsilon > 0)
    norms, sent, arriving = (np.asarray(array, float)[:, kept] for array in measured[:3])
    leak = epsilon / (variance[kept] + epsilon)
    factors = np.stack([np.zeros_like(leak), leak, np.ones_like(leak)])
    totals, predicted = np.linalg.norm(sent, axis=1), np.linalg.norm(factors * sent, axis=1)
    squares = np.sum(norms**2, axis=1)
    share = squares / (np.sum(squares) or 1.0)
    return [
        {
            "part": part,
            "features": len(variance),
            "survival": float(np.linalg.norm(arriving[k]) / totals[k]) if totals[k] else None,
            "predicted": float(predicted[k] / totals[k]) if totals[k] else None,
            "share": float(share[k]),
            "blocked_share": float(share[0] + share[1]),
            "variance_min": float(np.min(variance)),
            "variance_median": float(np.median(variance)),
            "dead": int(np.sum(~alive)),
        }
        for k, part in enumerate(GradientParts._fields)
    ]
