"""How is an image convolved fastest? As XLA's own convolution or as one matrix product over patches."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

Form = Literal["native", "patches"]
Images = Float[Array, "n h w channels"]
Kernel = Float[Array, "size size channels features"]


class Forms(NamedTuple):
    """In which form a convolution and its two derivatives are computed.

    Attributes:
        value: the convolution itself.
        along_images: its derivative along the images, whose transpose is the gradient with respect to them.
        along_kernel: its derivative along the kernel.
    """

    value: Form
    along_images: Form
    along_kernel: Form


class Convolution(nn.Module):
    """A square convolution of images (n, h, w, channels), with zero padding.

    Attributes:
        features: channels of the output.
        size: height and width of the kernel.
        strides: step of the kernel.
        padding: rows and columns of zeros on every side.
        use_bias: whether a bias, one number a channel, is added.
        kernel_init: initializer of the kernel, (size, size, channels, features); He et al.'s, fan-out, by default.
    """

    features: int
    size: int = 3
    strides: int = 1
    padding: int = 1
    use_bias: bool = True
    kernel_init: Callable[..., Array] = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

    @nn.compact
    def __call__(self, x: Images) -> Float[Array, "n h_out w_out features"]:
        """Return the convolved images."""
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, x.shape[-1], self.features), jnp.float32)
        dtype = jnp.result_type(x, kernel)
        y = convolve(x.astype(dtype), kernel.astype(dtype), strides=self.strides, padding=self.padding)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return y


def convolve(
    x: Images, kernel: Kernel, *, strides: int = 1, padding: int = 0, forms: Forms | None = None
) -> Float[Array, "n h_out w_out features"]:
    """Return the cross-correlation of images with a kernel, `y[i, j] = Σ x[strides i + a, strides j + b] kernel[a, b]`.

    Values and derivatives of all orders are the same in every form, up to rounding.

    Args:
        x: images.
        kernel: a square kernel.
        strides: step of the kernel.
        padding: rows and columns of zeros on every side.
        forms: how to compute it; None means `fastest_forms` for these shapes.
    """
    if forms is None:
        height, width = (_reach(extent, len(kernel), strides, padding) for extent in x.shape[1:3])
        forms = fastest_forms(x.shape[-1], height * width)
    return _convolve(x, kernel, strides, padding, forms)


def fastest_forms(channels: int, positions: int) -> Forms:
    """Return the forms that are fastest on the default backend (docs/performance.md, convolutions).

    Args:
        channels: of the images.
        positions: height times width of the output.
    """
    if jax.default_backend() != "cpu":
        return Forms("native", "native", "native")
    if channels <= 4:
        return Forms("patches", "patches", "patches")
    if positions <= 4:
        return Forms("patches", "patches", "native")
    return Forms("native", "patches" if positions <= 16 else "native", "native" if positions <= 16 else "patches")


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _convolve(x: Array, kernel: Array, strides: int, padding: int, forms: Forms) -> Array:
    return _FORMS[forms.value](x, kernel, strides, padding)


def _derivative(strides: int, padding: int, forms: Forms, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (x, kernel), (x_change, kernel_change) = primals, tangents
    y = _convolve(x, kernel, strides, padding, forms)
    change = jnp.zeros_like(y)
    if not isinstance(x_change, SymbolicZero):
        change += _FORMS[forms.along_images](x_change, kernel, strides, padding)
    if not isinstance(kernel_change, SymbolicZero):
        change += _FORMS[forms.along_kernel](x, kernel_change, strides, padding)
    return y, change


_convolve.defjvp(_derivative, symbolic_zeros=True)


def _native(x: Array, kernel: Array, strides: int, padding: int) -> Array:
    around = [(padding, padding)] * 2
    names = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (strides, strides), around, dimension_numbers=names)


def _over_patches(x: Array, kernel: Array, strides: int, padding: int) -> Array:
    size, _, channels, features = kernel.shape
    n, *extents, _ = x.shape
    height, width = (_reach(extent, size, strides, padding) for extent in extents)
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    shifted = [
        x[:, row : row + strides * (height - 1) + 1 : strides, column : column + strides * (width - 1) + 1 : strides]
        for row in range(size)
        for column in range(size)
    ]
    patches = jnp.concatenate(shifted, axis=-1).reshape(-1, size * size * channels)
    return (patches @ kernel.reshape(-1, features)).reshape(n, height, width, features)


def _reach(extent: int, size: int, strides: int, padding: int) -> int:
    """Return the height or width of the output."""
    return (extent + 2 * padding - size) // strides + 1


_FORMS = {"native": _native, "patches": _over_patches}
