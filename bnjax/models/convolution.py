"""How is an image convolved fastest? In one of several forms, chosen by backend and shape."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from bnjax.models.convolution_forms import Convolved, Form, Images, Kernel, band, native, patches, winograd

# Products for each image and place of the kernel from which on Winograd's filtering is worth its compilation, which
# takes some two seconds longer; below, it saves a millisecond or two of a step.
WORTH_FILTERING = 2**18


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
    def __call__(self, x: Images) -> Convolved:
        """Return the convolved images."""
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, x.shape[-1], self.features), jnp.float32)
        dtype = jnp.result_type(x, kernel)
        y = convolve(x.astype(dtype), kernel.astype(dtype), strides=self.strides, padding=self.padding)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return y


def convolve(x: Images, kernel: Kernel, *, strides: int = 1, padding: int = 0, form: Form | None = None) -> Convolved:
    """Return the cross-correlation of images with a kernel, `y[i, j] = Σ x[strides i + a, strides j + b] kernel[a, b]`.

    Values and derivatives of all orders are the same in every form, up to rounding.

    Args:
        x: images.
        kernel: a square kernel.
        strides: step of the kernel.
        padding: rows and columns of zeros on every side.
        form: one of `bnjax.models.convolution_forms`; None means `fastest_form` for these shapes. They differ where
            numbers are not finite: a form may spread a NaN or infinity over more positions than it reaches.

    Raises:
        ValueError: a kernel that is not square, of other channels than the images, or larger than the padded images, or
            empty; strides below 1 or padding below 0.
    """
    if strides < 1 or padding < 0 or x.ndim != 4 or kernel.ndim != 4 or 0 in kernel.shape:
        raise ValueError(
            "a convolution needs images (n, h, w, channels), a kernel (size, size, channels, features) with no empty "
            f"axis, strides >= 1 and padding >= 0, got {x.shape}, {kernel.shape}, {strides}, {padding}"
        )
    height, width, *channels = kernel.shape[:3]
    fits = height <= min(x.shape[1:3]) + 2 * padding
    if height != width or channels != [x.shape[-1]] or not fits:
        raise ValueError(
            f"a convolution of images {x.shape} with padding {padding} needs a square kernel of {x.shape[-1]} channels "
            f"and at most {min(x.shape[1:3]) + 2 * padding} rows, got {kernel.shape}; resize the images?"
        )
    form = form or fastest_form(x.shape, kernel.shape, strides)
    return form(x, kernel, strides, padding)


def fastest_form(images: Sequence[int], kernel: Sequence[int], strides: int) -> Form:
    """Return the form that is fastest with its derivatives on the default backend (docs/performance.md, convolutions).

    Args:
        images: shape of the images, (n, h, w, channels).
        kernel: shape of the kernel, (size, size, channels, features).
        strides: step of the kernel.
    """
    if jax.default_backend() != "cpu":
        return native
    _, height, width, channels = images
    size, *_, features = kernel
    if (size, strides) == (3, 1) and channels > 4 and height * width * channels * features >= WORTH_FILTERING:
        return winograd
    if features <= 16:
        return band
    return patches
