"""AlexNet for 32×32 images with one normalizer of 20 features at four depths of its head (arXiv 2205.15146)."""

from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.models.convolution import Convolution
from bnjax.models.pooling import max_pool
from bnjax.models.split_head import SplitHead
from bnjax.normalizers import Normalizer, identity
from bnjax.normalizers.normalizer import Mode


class AlexNet(nn.Module):
    """Five 3×3 convolutions (64 with stride 2, 192, 384, 256, 256), Linear to 20, and a `SplitHead`.

    Attributes:
        version: 1 to 4; the higher, the more layers follow the normalizer.
        classes: number of logits.
        norm: the normalizer in the head.
    """

    version: int = 1
    classes: int = 10
    norm: Normalizer = identity()

    def setup(self) -> None:
        """Build the layers."""
        self.convolutions = [Convolution(64, strides=2), *[Convolution(width) for width in (192, 384, 256, 256)]]
        self.linear = nn.Dense(20)
        self.split = SplitHead(self.version, self.classes, self.norm)

    def trunk(self, images: Float[Array, "n h w channels"]) -> Float[Array, "n features"]:
        """Return the features before the normalizer."""
        x = images
        for index, convolution in enumerate(self.convolutions):
            x = nn.relu(convolution(x))
            if index in (0, 1, 4):
                x = max_pool(x)
        return self.split.trunk(nn.relu(self.linear(x.reshape(len(x), -1))))

    def head(self, y: Float[Array, "... features"]) -> Float[Array, "... classes"]:
        """Return the logits from the normalizer's output, of one row or of many."""
        return self.split.head(y)

    def __call__(self, images: Float[Array, "n h w channels"], *, mode: Mode = "batch") -> Float[Array, "n classes"]:
        """Return the logits."""
        return self.head(self.split.normalization(self.trunk(images), mode=mode))
