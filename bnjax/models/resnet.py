"""Residual networks in their CIFAR form (arXiv 1512.03385): a 3×3 stem without pooling."""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.models.convolution import Convolution
from bnjax.models.normalizer import Normalization
from bnjax.normalizers import Normalizer, identity
from bnjax.normalizers.normalizer import Mode

# Blocks of each stage.
RESNET18 = (2, 2, 2, 2)
RESNET34 = RESNET50 = (3, 4, 6, 3)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, or 1×1, 3×3 and 1×1 to four times the width, added to their input.

    Where the shape changes, the input takes a 1×1 convolution and a normalizer of its own.

    Attributes:
        width: channels of the 3×3 convolutions.
        strides: step of the (first) 3×3 convolution.
        bottleneck: whether the block has three convolutions.
        norm: the normalizer after every convolution.
    """

    width: int
    strides: int
    bottleneck: bool
    norm: Normalizer

    @nn.compact
    def __call__(self, x: Float[Array, "n h w channels"], *, mode: Mode) -> Float[Array, "n h_out w_out features"]:
        """Return the images after the block."""
        pointwise = partial(Convolution, size=1, padding=0, use_bias=False)
        spatial = partial(Convolution, use_bias=False)
        if self.bottleneck:
            layers = [pointwise(self.width), spatial(self.width, strides=self.strides), pointwise(4 * self.width)]
        else:
            layers = [spatial(self.width, strides=self.strides), spatial(self.width)]
        y = x
        for index, convolution in enumerate(layers):
            y = Normalization(self.norm)(convolution(y), mode=mode)
            if index < len(layers) - 1:
                y = nn.relu(y)
        if x.shape != y.shape:
            x = Normalization(self.norm)(pointwise(y.shape[-1], strides=self.strides)(x), mode=mode)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """3×3 convolution, four stages of residual blocks that halve the images three times, mean, Linear.

    Attributes:
        stages: blocks of each stage, such as `RESNET18`.
        bottleneck: whether blocks have three convolutions (ResNet-50) or two.
        classes: number of logits.
        norm: the normalizer after every convolution.
        width: channels of the first stage; each further stage has twice as many.
    """

    stages: Sequence[int] = RESNET18
    bottleneck: bool = False
    classes: int = 10
    norm: Normalizer = identity()
    width: int = 64

    @nn.compact
    def __call__(self, images: Float[Array, "n h w channels"], *, mode: Mode = "batch") -> Float[Array, "n classes"]:
        """Return the logits."""
        x = Convolution(self.width, use_bias=False)(images)
        x = nn.relu(Normalization(self.norm)(x, mode=mode))
        for stage, blocks in enumerate(self.stages):
            for block in range(blocks):
                strides = 2 if stage > 0 and block == 0 else 1
                x = ResidualBlock(self.width * 2**stage, strides, self.bottleneck, self.norm)(x, mode=mode)
        return nn.Dense(self.classes)(jnp.mean(x, axis=(1, 2)))
