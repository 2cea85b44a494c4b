"""What computes a coupling's shift and scale? A residual network with weight normalization."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from bnjax.models.convolution import convolve
from bnjax.models.normalizer import Normalization
from bnjax.normalizers import Normalizer
from bnjax.normalizers.normalizer import Mode

Images = Float[Array, "n h w channels"]

# What the way back keeps of a residual block, besides its input; the rest is cheaper to make anew than to keep.
CONVOLVED = "convolved"


class WeightNormConvolution(nn.Module):
    """A convolution that keeps the images' size, with weight normalization (arXiv 1602.07868).

    The kernel is `length · direction / ‖direction‖`, feature by feature; `length` starts at ‖direction‖.

    Attributes:
        features: channels of the output.
        size: height and width of the kernel, odd.
        use_bias: whether a bias, one number a channel, is added.
    """

    features: int
    size: int = 3
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Images) -> Float[Array, "n h w features"]:
        """Return the convolved images."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # within ±1/√fan_in
        direction = self.param("direction", uniform, shape, jnp.float32)
        norm = jnp.sqrt(jnp.sum(direction**2, axis=(0, 1, 2)))
        length = self.param("length", lambda _: norm)
        kernel = (length / norm * direction).astype(jnp.result_type(x, direction))
        y = convolve(x.astype(kernel.dtype), kernel, padding=self.size // 2)
        if self.size > 1:
            y = checkpoint_name(y, CONVOLVED)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return y


class ResidualBlock(nn.Module):
    """Twice [norm → ReLU → 3×3 convolution], added to the input; beside it a 1×1 convolution of that sum.

    Attributes:
        norm: the normalizer before every ReLU.
    """

    norm: Normalizer

    @nn.compact
    def __call__(self, x: Images, *, mode: Mode) -> tuple[Images, Images]:
        """Return the sum and what skips from it to the network's end."""
        width = x.shape[-1]
        y = WeightNormConvolution(width, use_bias=False)(activated(self.norm, x, mode))
        x += WeightNormConvolution(width)(activated(self.norm, y, mode))
        return x, WeightNormConvolution(width, size=1)(x)


class ResidualNetwork(nn.Module):
    """Convolution, residual blocks, and at the end [norm → ReLU → 1×1 convolution] of the sum of all that skips.

    The blocks are one module with stacked parameters, applied in a loop: it is compiled once.

    Attributes:
        features: channels of the output.
        width: channels of all blocks.
        blocks: how many blocks.
        norm: the normalizer before every ReLU.
    """

    features: int
    width: int
    blocks: int
    norm: Normalizer

    @nn.compact
    def __call__(self, x: Images, *, mode: Mode) -> Float[Array, "n h w features"]:
        """Return the network's output."""

        def step(block: ResidualBlock, carry: tuple[Images, Images], _: None) -> tuple[tuple[Images, Images], None]:
            x, skipped = carry
            x, of_block = block(x, mode=mode)
            return (x, skipped + of_block), None

        x = WeightNormConvolution(self.width)(x)
        skipped = WeightNormConvolution(self.width, size=1)(x)
        if self.blocks:
            kept = jax.checkpoint_policies.save_only_these_names(CONVOLVED)
            through_blocks = stacked(nn.remat(step, policy=kept), self.blocks)
            (_, skipped), _ = through_blocks(ResidualBlock(self.norm), (x, skipped), None)
        return WeightNormConvolution(self.features, size=1)(activated(self.norm, skipped, mode))


def activated(norm: Normalizer, x: Images, mode: Mode) -> Images:
    """Return the ReLU of the normalized images; called inside a module, the normalizer is a part of it."""
    return nn.relu(Normalization(norm)(x, mode=mode))


def stacked(step: Callable[..., Any], length: int | None = None, *, reverse: bool = False) -> Callable[..., Any]:
    """Return `step(module, carry, x) -> (carry, y)` as a loop over modules of one kind with parameters of their own."""
    return nn.scan(
        step,
        variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True, "noise": True},
        length=length,
        reverse=reverse,
    )
