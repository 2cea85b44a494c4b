"""Batch renormalization: batch statistics corrected towards the running ones (Ioffe, arXiv 1702.03275)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from bnjax.normalizers.batch import (
    batch_variant,
    flat_stats,
    initial_stats,
    running_moments,
    updated_stats,
)
from bnjax.normalizers.moments import batch_axes, moments
from bnjax.normalizers.normalizer import (
    Mode,
    Normalizer,
    Standardized,
    Stats,
    build_normalizer,
    divide_by_deviation,
    learned_affine,
    memoized,
)


@memoized
def batch_renorm(
    *,
    r_max: float = 3.0,
    d_max: float = 5.0,
    stop_gradient: bool = True,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    affine: bool = True,
    feature_axis: int = -1,
) -> Normalizer:
    """Return batch renormalization, `ŷ = r · (x - μ) / s + d`.

    `r = s / s_running` clipped to `[1/r_max, r_max]` and `d = (μ - μ_running) / s_running` clipped to
    `[-d_max, d_max]`, with `s = √(σ² + epsilon)`. Inside the clip range the values are those of frozen statistics.

    Args:
        r_max: the bound of r, ≥ 1.
        d_max: the bound of d, ≥ 0.
        stop_gradient: whether r and d count as constants in derivatives, as published: then it blocks what
            `batch_norm` blocks. Differentiated, it equals frozen statistics inside the clip range and blocks nothing
            there (docs/theory.md, N).
        epsilon, momentum, affine, feature_axis: as in `batch_norm`.

    Raises:
        ValueError: `r_max` < 1 or `d_max` < 0.
    """
    if not (r_max >= 1 and d_max >= 0):
        raise ValueError(f"batch_renorm needs r_max >= 1 and d_max >= 0, got r_max={r_max}, d_max={d_max}")
    learned = learned_affine(feature_axis=feature_axis, learned=affine)
    plain = batch_variant("batch_renorm", epsilon=epsilon, momentum=momentum, affine=learned, feature_axis=feature_axis)

    def standardize(stats: Stats, x: Array, /, *, mode: Mode, key: Array | None) -> tuple[Standardized, Stats]:
        del key
        running = running_moments(stats, x, feature_axis)
        if mode == "running":
            return divide_by_deviation(x, running, epsilon), stats
        batch = moments(x, batch_axes(x, feature_axis))
        values, scale = divide_by_deviation(x, batch, epsilon)
        running_scale = jnp.sqrt(running.variance + epsilon)
        r = jnp.clip(scale / running_scale, 1 / r_max, r_max)
        d = jnp.clip((batch.mean - running.mean) / running_scale, -d_max, d_max)
        if stop_gradient:
            r, d = jax.lax.stop_gradient((r, d))
        return Standardized(r * values + d, scale / r), updated_stats(stats, flat_stats(batch), momentum)

    return build_normalizer(
        "batch_renorm",
        standardize,
        feature_axis=feature_axis,
        epsilon=epsilon,
        affine=learned,
        initial_stats=lambda x: initial_stats(x, feature_axis),
        check=plain.check,
    )
