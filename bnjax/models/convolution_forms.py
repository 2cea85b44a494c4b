"""In which forms can a convolution be computed? Four of them, with equal values and derivatives up to rounding.

All return the cross-correlation of images (n, h, w, channels) with a square kernel (size, size, channels, features),
from images, kernel, strides and padding.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Images = Float[Array, "n h w channels"]
Kernel = Float[Array, "size size channels features"]
Convolved = Float[Array, "n h_out w_out features"]
Form = Callable[[Images, Kernel, int, int], Convolved]

# Layers of the same shapes are traced once.
traced_once = partial(jax.jit, static_argnames=("strides", "padding"))
# How many numbers of the images are worked on at once: some 4 MB.
NUMBERS_AT_ONCE = 2**20


@traced_once
def native(x: Images, kernel: Kernel, strides: int, padding: int) -> Convolved:
    """Convolve as XLA does."""
    around = [(padding, padding)] * 2
    names = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (strides, strides), around, dimension_numbers=names)


@traced_once
def patches(x: Images, kernel: Kernel, strides: int, padding: int) -> Convolved:
    """Convolve as a matrix product: every patch of the images, times the kernel."""
    if len(kernel) == 1:  # The patches are the pixels: nothing is made of them that would have to be small.
        return _patches(x, kernel, strides, padding)
    return _few_at_once(_patches, x, kernel, strides, padding)


def _patches(x: Images, kernel: Kernel, strides: int, padding: int) -> Convolved:
    size, _, channels, features = kernel.shape
    n, height, width, _ = output_shape(x, kernel, strides, padding)
    x = _padded(x, padding)
    shifted = [
        x[:, row : row + strides * (height - 1) + 1 : strides, column : column + strides * (width - 1) + 1 : strides]
        for row in range(size)
        for column in range(size)
    ]
    rows = jnp.concatenate(shifted, axis=-1).reshape(-1, size * size * channels)
    return (rows @ kernel.reshape(-1, features)).reshape(n, height, width, features)


@traced_once
def band(x: Images, kernel: Kernel, strides: int, padding: int) -> Convolved:
    """Convolve as one matrix product: whole rows of the images, times a band matrix made of the kernel.

    It multiplies with many zeros, but for few channels its matrices have far better shapes than `patches`.
    """
    size, _, channels, features = kernel.shape
    n, height, width, _ = output_shape(x, kernel, strides, padding)
    x = _padded(x, padding)
    entries, places = x.shape[2], np.arange(width) * strides
    # 1 where input column i meets kernel column b for the output column o.
    meets = np.arange(entries)[:, None] == places + np.arange(size)[:, None, None]
    matrix = jnp.einsum("bio,abcf->aicof", jnp.asarray(meets, kernel.dtype), kernel)
    rows = [x[:, row : row + strides * (height - 1) + 1 : strides] for row in range(size)]
    rows = jnp.stack(rows, axis=2).reshape(n * height, size * entries * channels)
    return (rows @ matrix.reshape(-1, width * features)).reshape(n, height, width, features)


@traced_once
def winograd(x: Images, kernel: Kernel, strides: int, padding: int) -> Convolved:
    """Convolve with Winograd's minimal filtering F(2×2, 3×3): 16 products for 4 outputs instead of 36.

    For kernels of size 3 and strides 1 (Lavin and Gray, arXiv 1509.09308).
    """
    if (kernel.shape[0], strides) != (3, 1):
        raise ValueError(
            f"the form winograd needs kernels of size 3 and strides 1, got {kernel.shape[0]} and {strides}; choose "
            "another form"
        )
    return _few_at_once(_winograd, x, kernel, strides, padding)


def _winograd(x: Images, kernel: Kernel, strides: int, padding: int) -> Convolved:
    n, height, width, features = output_shape(x, kernel, strides, padding)
    # Rounded up to whole tiles, whose outputs are 2×2.
    x = jnp.pad(x, ((0, 0), (padding, padding + height % 2), (padding, padding + width % 2), (0, 0)))
    tiles = (n, -(-height // 2), -(-width // 2))
    transformed = [_of_input(rows, axis=2) for rows in _of_input(x, axis=1)]
    kernels = [_of_kernel(rows) for rows in _of_kernel(kernel)]
    products = [
        [
            (own.reshape(math.prod(tiles), own.shape[-1]) @ other).reshape(*tiles, features)
            for own, other in zip(*rows, strict=True)
        ]
        for rows in zip(transformed, kernels, strict=True)
    ]
    outputs = zip(*[_of_products(column) for column in zip(*products, strict=True)], strict=True)
    y = jnp.stack([jnp.stack(_of_products(row), axis=3) for row in outputs], axis=2)
    return y.reshape(n, 2 * tiles[1], 2 * tiles[2], features)[:, :height, :width]


def _of_input(x: Array, axis: int) -> list[Array]:
    """Return `Bᵀ x`, from even and odd places: their slices, unlike strided ones, are cheap on the way back too."""
    pairs = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
    even, odd = (jax.lax.index_in_dim(pairs, place, axis + 1, keepdims=False) for place in (0, 1))
    (even, next_even), (odd, next_odd) = (
        (jax.lax.slice_in_dim(places, 0, -1, axis=axis), jax.lax.slice_in_dim(places, 1, None, axis=axis))
        for places in (even, odd)
    )
    return [even - next_even, odd + next_even, next_even - odd, odd - next_odd]


def _of_kernel(kernel: Array) -> list[Array]:
    """Return `G k` along the first axis."""
    first, second, third = kernel
    return [first, (first + second + third) / 2, (first - second + third) / 2, third]


def _of_products(products: Sequence[Array]) -> tuple[Array, Array]:
    """Return `Aᵀ m`, two outputs from four products."""
    first, second, third, fourth = products
    return first + second + third, second - third - fourth


def _few_at_once(form: Form, x: Images, kernel: Kernel, strides: int, padding: int) -> Convolved:
    """Convolve so few images at a time that what the form makes of them stays in the processor's cache.

    On the way back it is made anew rather than kept.
    """
    n, *output = output_shape(x, kernel, strides, padding)
    chunks = min(n, -(-x.size // NUMBERS_AT_ONCE))
    if chunks <= 1:
        return form(x, kernel, strides, padding)
    at_once = -(-n // chunks)
    x = jnp.pad(x, ((0, chunks * at_once - n), (0, 0), (0, 0), (0, 0))).reshape(chunks, at_once, *x.shape[1:])
    y = jax.lax.map(jax.checkpoint(lambda images: form(images, kernel, strides, padding)), x)
    return y.reshape(-1, *output)[:n]


def output_shape(x: Images, kernel: Kernel, strides: int, padding: int) -> tuple[int, int, int, int]:
    """Return the shape of the convolved images."""
    height, width = ((extent + 2 * padding - len(kernel)) // strides + 1 for extent in x.shape[1:3])
    return len(x), height, width, kernel.shape[-1]


def _padded(x: Images, padding: int) -> Convolved:
    return jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
