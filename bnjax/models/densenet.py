"""Densely connected networks in their CIFAR form (arXiv 1608.06993): a 3×3 stem without pooling."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.models.convolution import Convolution
from bnjax.models.normalizer import Normalization
from bnjax.normalizers import Normalizer, identity
from bnjax.normalizers.normalizer import Mode

# Layers of each dense block.
DENSENET121 = (6, 12, 24, 16)


class DenseNet(nn.Module):
    """3×3 convolution, dense blocks with transitions between them, mean, Linear.

    A layer is normalizer → ReLU → 1×1 convolution to 4·growth → normalizer → ReLU → 3×3 convolution to `growth`
    channels, put in front of its input. A transition is normalizer → ReLU → 1×1 convolution to half of the channels →
    mean over 2×2 positions.

    Attributes:
        blocks: layers of each dense block, such as `DENSENET121`.
        classes: number of logits.
        norm: the normalizer before every ReLU.
        growth: channels that a layer adds.
    """

    blocks: Sequence[int] = DENSENET121
    classes: int = 10
    norm: Normalizer = identity()
    growth: int = 32

    @nn.compact
    def __call__(self, images: Float[Array, "n h w channels"], *, mode: Mode = "batch") -> Float[Array, "n classes"]:
        """Return the logits."""

        def activated(x: Array) -> Array:
            return nn.relu(Normalization(self.norm)(x, mode=mode))

        def pointwise(features: int) -> Convolution:
            return Convolution(features, size=1, padding=0, use_bias=False)

        x = Convolution(2 * self.growth, use_bias=False)(images)
        for index, layers in enumerate(self.blocks):
            for _ in range(layers):
                y = pointwise(4 * self.growth)(activated(x))
                y = Convolution(self.growth, use_bias=False)(activated(y))
                x = jnp.concatenate([y, x], axis=-1)
            if index < len(self.blocks) - 1:
                x = pointwise(x.shape[-1] // 2)(activated(x))
                x = nn.avg_pool(x, (2, 2), (2, 2)) if min(x.shape[1:3]) > 1 else x
        return nn.Dense(self.classes)(jnp.mean(activated(x), axis=(1, 2)))
