"""LeNet-5 with one normalizer of 20 features at four depths of its head (arXiv 2205.15146)."""

from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.models.convolution import Convolution
from bnjax.models.pooling import check_size, max_pool
from bnjax.models.split_head import SplitHead


class LeNet(SplitHead):
    """5×5 convolutions to 6 and 16 channels, linear layers of 120, 84 and 20, and a `SplitHead`.

    Images of 28×28 give 400 features after the second pooling; others, from 12×12 on, change the first linear layer
    alone.

    Attributes: those of `SplitHead`.
    """

    def setup(self) -> None:
        """Build the layers."""
        super().setup()
        self.first = Convolution(6, size=5, padding=2)
        self.second = Convolution(16, size=5, padding=0)
        self.linear = [nn.Dense(width) for width in (120, 84, 20)]

    def trunk(self, images: Float[Array, "n h w channels"]) -> Float[Array, "n features"]:
        """Return the features before the normalizer."""
        check_size(images, 12, "LeNet", usual=28)
        x = images
        for convolution in (self.first, self.second):
            x = max_pool(nn.relu(convolution(x)))
        x = x.reshape(len(x), -1)
        for linear in self.linear:
            x = nn.relu(linear(x))
        return super().trunk(x)
