"""Root-mean-square normalization: each row by its own length (Zhang & Sennrich, arXiv 1910.07467)."""

import jax.numpy as jnp
from jaxtyping import Array

from bnjax.normalizers.moments import Moments, statistics_dtype
from bnjax.normalizers.normalizer import (
    Normalizer,
    Standardized,
    build_normalizer,
    divide_by_deviation,
    learned_affine,
    memoized,
    without_statistics,
)


@memoized
def rms_norm(*, epsilon: float = 1e-5, affine: bool = True, feature_axis: int = -1) -> Normalizer:
    """Return `ŷ = x / √(mean(x²) + epsilon)`, the mean over the features of one row at one position.

    No statistics, equal in both modes. Arguments as in `layer_norm`; like all normalizers here it has a `bias` too.
    """

    def standardize(x: Array) -> Standardized:
        x = x.astype(statistics_dtype(x.dtype))
        mean_square = jnp.mean(jnp.square(x), axis=feature_axis, keepdims=True)
        about_zero = Moments(jnp.zeros_like(mean_square), mean_square)
        return divide_by_deviation(x, about_zero, epsilon)

    return build_normalizer(
        "rms_norm",
        without_statistics(standardize),
        feature_axis=feature_axis,
        epsilon=epsilon,
        affine=learned_affine(feature_axis=feature_axis, learned=affine),
    )
