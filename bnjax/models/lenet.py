"""LeNet-5 with one normalizer of 20 features at four depths of its head (arXiv 2205.15146)."""

from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.models.convolution import Convolution
from bnjax.models.pooling import max_pool
from bnjax.models.split_head import SplitHead
from bnjax.normalizers import Normalizer, identity
from bnjax.normalizers.normalizer import Mode


class LeNet(nn.Module):
    """5×5 convolutions to 6 and 16 channels, linear layers of 120, 84 and 20, and a `SplitHead`.

    Images of 28×28 give 400 features after the second pooling; others change the first linear layer alone.

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
        self.first = Convolution(6, size=5, padding=2)
        self.second = Convolution(16, size=5, padding=0)
        self.linear = [nn.Dense(width) for width in (120, 84, 20)]
        self.split = SplitHead(self.version, self.classes, self.norm)

    def trunk(self, images: Float[Array, "n h w channels"]) -> Float[Array, "n features"]:
        """Return the features before the normalizer."""
        x = images
        for convolution in (self.first, self.second):
            x = max_pool(nn.relu(convolution(x)))
        x = x.reshape(len(x), -1)
        for linear in self.linear:
            x = nn.relu(linear(x))
        return self.split.trunk(x)

    def head(self, y: Float[Array, "... features"]) -> Float[Array, "... classes"]:
        """Return the logits from the normalizer's output, of one row or of many."""
        return self.split.head(y)

    def __call__(self, images: Float[Array, "n h w channels"], *, mode: Mode = "batch") -> Float[Array, "n classes"]:
        """Return the logits."""
        return self.head(self.split.normalization(self.trunk(images), mode=mode))
