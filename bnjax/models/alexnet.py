"""AlexNet for 32×32 images with one normalizer of 20 features at four depths of its head (arXiv 2205.15146)."""

from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.models.convolution import Convolution
from bnjax.models.pooling import check_size, max_pool
from bnjax.models.split_head import SplitHead


class AlexNet(SplitHead):
    """Five 3×3 convolutions (64 with stride 2, 192, 384, 256, 256), Linear to 20, and a `SplitHead`.

    Images of 32×32 give 1,024 features after the last pooling; others, from 15×15 on, change the first linear layer
    alone.

    Attributes: those of `SplitHead`.
    """

    def setup(self) -> None:
        """Build the layers."""
        super().setup()
        self.convolutions = [Convolution(64, strides=2), *[Convolution(width) for width in (192, 384, 256, 256)]]
        self.linear = nn.Dense(20)

    def trunk(self, images: Float[Array, "n h w channels"]) -> Float[Array, "n features"]:
        """Return the features before the normalizer."""
        check_size(images, 15, "AlexNet", usual=32)
        x = images
        for index, convolution in enumerate(self.convolutions):
            x = nn.relu(convolution(x))
            if index in (0, 1, 4):
                x = max_pool(x)
        return super().trunk(nn.relu(self.linear(x.reshape(len(x), -1))))
