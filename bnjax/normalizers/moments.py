"""What are the mean and the variance of a group of features, with derivatives that are right?"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class Moments(NamedTuple):
    """Mean and biased variance over some axes, kept as axes of length 1."""

    mean: Float[Array, "..."]
    variance: Float[Array, "..."]


def statistics_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Return the dtype of moments and running statistics: float32 for half precision, else the input's."""
    return jnp.promote_types(dtype, jnp.float32)


def batch_axes(x: Array, feature_axis: int) -> tuple[int, ...]:
    """Return all axes of `x` but that of the features."""
    return tuple(axis for axis in range(x.ndim) if axis != feature_axis % x.ndim)


def moments(x: Float[Array, "..."], axes: tuple[int, ...]) -> Moments:
    """Return the two-pass moments `mean(x)` and `mean((x - mean)²)` over `axes`.

    The one-pass form `mean(x²) - mean(x)²`, clipped at zero, loses the digits that mean and standard deviation
    do not share, and its clip halves the third derivative of a constant feature (docs/theory.md, numerical traps).
    """
    x = x.astype(statistics_dtype(x.dtype))
    mean = jnp.mean(x, axis=axes, keepdims=True)
    return Moments(mean, jnp.mean(jnp.square(x - mean), axis=axes, keepdims=True))
