"""Batch normalization by an ℓp norm in place of the standard deviation (arXiv 1805.11604, section 3.3)."""

import math
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from bnjax.normalizers.batch import check_batch, updated_stats
from bnjax.normalizers.checks import is_concrete
from bnjax.normalizers.moments import batch_axes, statistics_dtype
from bnjax.normalizers.normalizer import (
    Mode,
    Normalizer,
    Standardized,
    Stats,
    along_features,
    build_normalizer,
    learned_affine,
    memoized,
)


@memoized
def lp_norm(
    *,
    p: float,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    affine: bool = True,
    feature_axis: int = -1,
) -> Normalizer:
    """Return `ŷ = (x - μ) / s`, `s` the ℓp norm of `x - μ` per value, for p = 1, 2 or ∞.

    `s = mean|x - μ| + epsilon` (p = 1), `√(mean (x - μ)² + epsilon)` (p = 2: `batch_norm`), `max|x - μ| + epsilon`
    (p = ∞). The running statistics are `mean` and `spread`, the mean or maximum in these formulas.

    Args:
        p: 1, 2 or `math.inf`.
        epsilon, momentum, affine, feature_axis: as in `batch_norm`.

    Raises:
        ValueError: another p; on use at p = ∞, a feature whose largest |x - μ| is reached more than once, since the
            derivative of the maximum does not exist there.
    """
    if p not in (1, 2, math.inf):
        raise ValueError(f"lp_norm needs p = 1, 2 or math.inf, got {p!r}")
    name = f"l{'inf' if p == math.inf else int(p)}_norm"

    def scale_of(spread: Array) -> Array:
        return jnp.sqrt(spread + epsilon) if p == 2 else spread + epsilon

    def standardize(stats: Stats, x: Array, /, *, mode: Mode, key: Array | None) -> tuple[Standardized, Stats]:
        del key
        if mode == "running":
            mean = along_features(stats, "mean", x, feature_axis)
            scale = scale_of(along_features(stats, "spread", x, feature_axis))
            return Standardized((x - mean) / scale, scale), stats
        axes = batch_axes(x, feature_axis)
        x = x.astype(statistics_dtype(x.dtype))
        mean = jnp.mean(x, axis=axes, keepdims=True)
        spread = _spread(x - mean, axes, p)
        scale = scale_of(spread)
        batch = {"mean": mean.ravel(), "spread": spread.ravel()}
        return Standardized((x - mean) / scale, scale), updated_stats(stats, batch, momentum)

    def initial_stats(x: Array) -> Stats:
        shape, dtype = (x.shape[feature_axis],), statistics_dtype(x.dtype)
        return {"mean": jnp.zeros(shape, dtype), "spread": jnp.ones(shape, dtype)}

    def check(x: Array) -> None:
        check_batch(x, feature_axis, name)
        if p == math.inf and is_concrete(x):
            _check_unique_maximum(x, batch_axes(x, feature_axis), name)

    return build_normalizer(
        name,
        standardize,
        feature_axis=feature_axis,
        epsilon=epsilon,
        affine=learned_affine(feature_axis=feature_axis, learned=affine),
        initial_stats=initial_stats,
        check=check,
    )


def _spread(centered: Float[Array, "..."], axes: tuple[int, ...], p: Literal[1, 2] | float) -> Float[Array, "..."]:
    if p == 2:
        return jnp.mean(jnp.square(centered), axis=axes, keepdims=True)
    if p == 1:
        return jnp.mean(jnp.abs(centered), axis=axes, keepdims=True)
    # The derivative of jnp.max looks for entries equal to the maximum, and misses where fusion rounds them apart.
    (feature_axis,) = set(range(centered.ndim)) - set(axes)
    table = jnp.moveaxis(jnp.abs(centered), feature_axis, -1).reshape(-1, centered.shape[feature_axis])
    farthest = jnp.argmax(table, axis=0, keepdims=True)
    shape = [1 if axis in axes else length for axis, length in enumerate(centered.shape)]
    return jnp.take_along_axis(table, farthest, axis=0).reshape(shape)


def _check_unique_maximum(x: Array, axes: tuple[int, ...], name: str) -> None:
    x = x.astype(statistics_dtype(x.dtype))
    distance = jnp.abs(x - jnp.mean(x, axis=axes, keepdims=True))
    largest = jnp.max(distance, axis=axes, keepdims=True)
    # Two equal distances on both sides of the mean differ by the mean's rounding.
    tied = distance >= largest - 16 * jnp.finfo(x.dtype).eps * jnp.max(jnp.abs(x), axis=axes, keepdims=True)
    count = jnp.sum(tied, axis=axes).ravel()
    if bool((count > 1).any()):
        feature = int(jnp.argmax(count > 1))
        raise ValueError(
            f"{name} needs one value of each feature farther from the mean than all others (at a tie the maximum has "
            f"no derivative), got {int(count[feature])} in feature {feature}; change the batch or use p = 1 or 2"
        )
