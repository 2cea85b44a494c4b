"""No normalization, in the form of a normalizer: the comparison that everything is held against."""

import jax.numpy as jnp
from jaxtyping import Array

from bnjax.normalizers.normalizer import (
    Normalizer,
    Standardized,
    build_normalizer,
    learned_affine,
    memoized,
    without_statistics,
)


@memoized
def identity(*, affine: bool = False, feature_axis: int = -1) -> Normalizer:
    """Return the normalizer with `ŷ = x` and scale 1; `affine=True` adds a `scale` and `bias` along `feature_axis`."""

    def standardize(x: Array) -> Standardized:
        return Standardized(x, jnp.ones((1,) * x.ndim, x.dtype))

    return build_normalizer(
        "identity",
        without_statistics(standardize),
        feature_axis=feature_axis,
        epsilon=0.0,
        affine=learned_affine(feature_axis=feature_axis, learned=affine),
        uses_input=False,
    )
