"""How do pixels become numbers without bounds? Dequantization, the logit transform, and squeezing."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Images = Float[Array, "n h w channels"]
# Pixels are moved into [(1 - c) / 2, (1 + c) / 2], where the logit is finite.
CONSTRAINT = 0.9


class Transformed(NamedTuple):
    """What a bijection makes of its input.

    Attributes:
        values: the output, as many numbers as the input.
        log_determinant: log |det ∂values/∂input| for every row, rows taken one by one.
    """

    values: Float[Array, "n h w features"]
    log_determinant: Float[Array, " n"]


def dequantized(key: Array, images: Images, *, levels: int) -> Images:
    """Return `(image · (levels - 1) + u) / levels` with uniform u: images with a density in place of grey levels.

    Args:
        key: the random key.
        images: pixels 0, 1/(levels - 1), …, 1.
        levels: how many values a pixel can have: 256 for MNIST and CIFAR-10, 17 for scikit-learn's digits.

    Raises:
        TypeError: pixels that are whole numbers.
        ValueError: fewer than 2 levels.
    """
    if levels < 2:
        raise ValueError(f"levels needs to be at least 2, got {levels}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(f"the images need to be floating-point numbers in [0, 1], got {images.dtype}; divide by 255?")
    return (images * (levels - 1) + jax.random.uniform(key, images.shape, images.dtype)) / levels


def logit(pixels: Images) -> Transformed:
    """Return `log(p / (1 - p))` of `p = (c (2 · pixel - 1) + 1) / 2`, c = 0.9 (arXiv 1605.08803, section 4.1)."""
    p = (CONSTRAINT * (2 * pixels - 1) + 1) / 2
    derivative = jnp.log(CONSTRAINT) - jnp.log(p) - jnp.log1p(-p)
    return Transformed(jnp.log(p) - jnp.log1p(-p), jnp.sum(derivative, axis=(1, 2, 3)))


def pixels_of(logits: Images) -> Images:
    """Return the pixels of `logit`'s values; those of samples can lie a little outside of [0, 1]."""
    return ((2 * jax.nn.sigmoid(logits) - 1) / CONSTRAINT + 1) / 2


def squeezed(x: Images) -> Float[Array, "n half_height half_width features"]:
    """Return every 2×2 square of pixels as one pixel; square by square in rows, then channels."""
    n, height, width, channels = x.shape
    squares = x.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(n, height // 2, width // 2, 4 * channels)


def unsqueezed(x: Float[Array, "n half_height half_width features"]) -> Images:
    """Return what `squeezed` was given."""
    n, height, width, features = x.shape
    squares = x.reshape(n, height, width, 2, 2, features // 4).transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(n, 2 * height, 2 * width, features // 4)
