"""Batch normalization: each feature by its own moments over the batch (Ioffe & Szegedy, arXiv 1502.03167).

The functions after `batch_norm` are what its variants in the neighbouring files share.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from bnjax.normalizers.checks import check_group_size
from bnjax.normalizers.moments import Moments, batch_axes, moments, statistics_dtype
from bnjax.normalizers.normalizer import (
    AffinePhase,
    Mode,
    Normalizer,
    Standardized,
    Stats,
    along_features,
    build_normalizer,
    divide_by_deviation,
    entry,
    learned_affine,
    memoized,
)


@memoized
def batch_norm(
    *, epsilon: float = 1e-5, momentum: float = 0.9, affine: bool = True, feature_axis: int = -1
) -> Normalizer:
    """Return batch normalization, `ŷ = (x - μ) / √(σ² + epsilon)`, `y = scale · ŷ + bias`.

    `μ` and the biased `σ²` of a feature run over rows and positions. The running statistics follow flax:
    `running = momentum · running + (1 - momentum) · batch`, with the biased variance.

    Args:
        epsilon: added to the variance, ≥ 0.
        momentum: the share of the old running statistics that an update keeps, from 0 to 1.
        affine: whether there are a learned `scale` and `bias`.
        feature_axis: the axis of the features.

    Raises:
        TypeError: an option that is declared as a float and is no number.
        ValueError: an `epsilon` or `momentum` out of its range.

    Example:
        >>> x = jnp.array([[1.0], [3.0]])
        >>> params, stats = batch_norm(epsilon=0.0).init(x)
        >>> y, stats = batch_norm(epsilon=0.0).apply(params, stats, x)
        >>> y.tolist()
        [[-1.0], [1.0]]
    """
    return batch_variant(
        "batch_norm",
        epsilon=epsilon,
        momentum=momentum,
        affine=learned_affine(feature_axis=feature_axis, learned=affine),
        feature_axis=feature_axis,
    )


def batch_variant(
    name: str,
    *,
    epsilon: float,
    momentum: float,
    affine: AffinePhase,
    feature_axis: int,
    backward: Callable[[Moments], Moments] = lambda batch: batch,
) -> Normalizer:
    """Return batch normalization under another name, with another affine phase.

    `backward` leaves the value of the batch's moments alone and may change what is differentiated through them.
    """

    def standardize(stats: Stats, x: Array, /, *, mode: Mode, key: Array | None) -> tuple[Standardized, Stats]:
        del key
        if mode == "running":
            return divide_by_deviation(x, running_moments(stats, x, feature_axis), epsilon), stats
        batch = backward(moments(x, batch_axes(x, feature_axis)))
        return divide_by_deviation(x, batch, epsilon), updated_stats(stats, flat_stats(batch), momentum)

    return build_normalizer(
        name,
        standardize,
        feature_axis=feature_axis,
        epsilon=epsilon,
        affine=affine,
        initial_stats=lambda x: initial_stats(x, feature_axis),
        check=lambda x: check_batch(x, feature_axis, name),
    )


def initial_stats(x: Array, feature_axis: int) -> Stats:
    """Return running statistics of mean 0 and variance 1."""
    shape, dtype = (x.shape[feature_axis],), statistics_dtype(x.dtype)
    return {"mean": jnp.zeros(shape, dtype), "variance": jnp.ones(shape, dtype)}


def running_moments(stats: Stats, x: Array, feature_axis: int) -> Moments:
    """Return the running statistics in a shape that broadcasts against `x`."""
    return Moments(*(along_features(stats, name, x, feature_axis) for name in Moments._fields))


def flat_stats(batch: Moments) -> Stats:
    """Return the batch's moments as statistics."""
    return {"mean": batch.mean.ravel(), "variance": batch.variance.ravel()}


def updated_stats(stats: Stats, batch: Stats, momentum: float) -> Stats:
    """Return `momentum · running + (1 - momentum) · batch`."""
    return {name: momentum * entry(stats, name, len(fresh)) + (1 - momentum) * fresh for name, fresh in batch.items()}


def check_batch(x: Array, feature_axis: int, name: str) -> None:
    """Raise ValueError unless every feature has at least two values in the batch."""
    check_group_size(
        math.prod(x.shape) // x.shape[feature_axis],
        "feature in the batch",
        name,
        remedy="pass more rows, or use mode='running' with known statistics",
    )
