"""How good is a flow? The likelihood it gives to images: as a loss, as a score, and in bits per dimension."""

import math

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float


def negative_log_likelihood(log_likelihoods: Float[Array, " n"], labels: Array) -> Float[Array, " n"]:
    """Return the loss of every image, `-log_likelihoods`, in nats; as that of a `Recipe`, with the labels unused."""
    del labels
    return -log_likelihoods


def log_likelihood(log_likelihoods: Float[Array, " n"], labels: Array) -> Float[Array, " n"]:
    """Return the score of every image, `log_likelihoods`, in nats; as that of a `Recipe`, with the labels unused."""
    del labels
    return log_likelihoods


def bits_per_dimension(log_likelihood: ArrayLike, *, dimensions: int, levels: int) -> Array:
    """Return `log2(levels) - log_likelihood / (dimensions · log 2)`, bits for a pixel of `levels` grey levels.

    Args:
        log_likelihood: natural logarithm of the density of dequantized images in [0, 1].
        dimensions: numbers in an image.
        levels: as in `dequantized`.
    """
    return math.log2(levels) - jnp.asarray(log_likelihood) / (dimensions * math.log(2))
