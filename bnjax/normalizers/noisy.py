"""Noisy batch normalization: batch normalization whose output distributions are made to shift (arXiv 1805.11604)."""

import math

import jax
from jaxtyping import Array

from bnjax.normalizers.batch import batch_variant
from bnjax.normalizers.moments import statistics_dtype
from bnjax.normalizers.normalizer import (
    Affine,
    AffinePhase,
    Mode,
    Normalizer,
    Params,
    learned_affine,
    memoized,
)


@memoized
def noisy_batch_norm(
    *,
    mean_noise: float = 0.5,
    deviation_noise: float = 1.25,
    mean_spread: float = 0.1,
    deviation_spread: float = 0.1,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    affine: bool = True,
    feature_axis: int = -1,
) -> Normalizer:
    """Return batch normalization followed by `y ← s · y + m`, noise that is drawn anew at each call from `key`.

    Per call and feature `μ ~ U(-mean_noise, mean_noise)` and `σ ~ U(1, deviation_noise)`; per value
    `m ~ U(μ - mean_spread, μ + mean_spread)` and `s ~ N(σ, deviation_spread²)`. Positions of a convolution count as
    batch. The noise is part of the affine phase; in running mode there is none. It blocks what `batch_norm`
    blocks, but makes the terms of the rows individual. One key draws the same noise on one kind of device (XLA's own
    generator), on another kind it may draw other noise.

    Args:
        mean_noise, deviation_noise, mean_spread, deviation_spread: n_μ, n_σ, r_μ and r_σ of the paper.
        epsilon, momentum, affine, feature_axis: as in `batch_norm`.

    Raises:
        ValueError: noise that is negative or not finite, a deviation below 1; on use in batch mode without a `key`.
    """
    sizes = (mean_noise, deviation_noise, mean_spread, deviation_spread)
    if not (all(0 <= size < math.inf for size in sizes) and deviation_noise >= 1):
        raise ValueError(
            "noise needs finite mean_noise, mean_spread and deviation_spread >= 0 and deviation_noise >= 1, got "
            f"{mean_noise}, {mean_spread}, {deviation_spread} and {deviation_noise}"
        )
    learned = learned_affine(feature_axis=feature_axis, learned=affine)

    def evaluate(params: Params, x: Array, *, mode: Mode, key: Array | None) -> Affine:
        slope, offset = learned.evaluate(params, x, mode=mode, key=key)
        if mode == "running":
            return Affine(slope, offset)
        if key is None:
            raise ValueError(
                "noisy_batch_norm needs a key in batch mode, got None; pass key=jax.random.key(seed), or "
                "rngs={'noise': key} to a model"
            )
        dtype = statistics_dtype(x.dtype)
        a_feature = [1] * x.ndim
        a_feature[feature_axis] = x.shape[feature_axis]

        # With JAX's default generator the draws are most of what a network takes to compile, anew at every place; XLA's
        # own draws all of a batch of keys from the first one, unless they are taken one after another.
        @jax.custom_batching.sequential_vmap
        def draw(bits: Array) -> tuple[Array, Array]:
            keys = jax.random.split(jax.random.wrap_key_data(bits, impl="rbg"), 4)
            mean = jax.random.uniform(keys[0], a_feature, dtype, -mean_noise, mean_noise)
            deviation = jax.random.uniform(keys[1], a_feature, dtype, 1.0, deviation_noise)
            m = mean + jax.random.uniform(keys[2], x.shape, dtype, -mean_spread, mean_spread)
            return m, deviation + deviation_spread * jax.random.normal(keys[3], x.shape, dtype)

        m, s = draw(jax.random.bits(key, (4,), "uint32"))
        return Affine(s * slope, s * offset + m)

    return batch_variant(
        "noisy_batch_norm",
        epsilon=epsilon,
        momentum=momentum,
        affine=AffinePhase(learned.init, evaluate),
        feature_axis=feature_axis,
    )
