"""VGG networks with the normalizer only in the classifier (arXiv 2205.15146, after arXiv 1409.1556)."""

from collections.abc import Sequence

from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.models.convolution import Convolution
from bnjax.models.normalizer import Normalization
from bnjax.models.pooling import max_pool
from bnjax.normalizers import Normalizer, identity
from bnjax.normalizers.normalizer import Mode

# How many convolutions stand before each of the five poolings.
VGG11 = (1, 1, 2, 2, 2)
VGG13 = (2, 2, 2, 2, 2)
VGG16 = (2, 2, 3, 3, 3)
VGG19 = (2, 2, 4, 4, 4)


class VGG(nn.Module):
    """3×3 convolutions with ReLU and no normalizer, then a classifier with the normalizer in its first hidden layer.

    The classifier is Linear → normalizer → ReLU → dropout → Linear → ReLU → dropout → Linear. Convolutions start from
    He et al.'s initialization (fan-out), linear layers from N(0, 0.01²), biases from 0.

    Attributes:
        stages: convolutions before each pooling, such as `VGG11`.
        classes: number of logits.
        norm: the normalizer.
        width: channels of the first stage; the others have 2, 4, 8 and 8 times as many.
        hidden: width of the classifier.
        dropout: the share of hidden units that is dropped in batch mode, keyed by the stream `dropout`.
    """

    stages: Sequence[int] = VGG11
    classes: int = 10
    norm: Normalizer = identity()
    width: int = 64
    hidden: int = 4096
    dropout: float = 0.5

    @nn.compact
    def __call__(self, images: Float[Array, "n h w channels"], *, mode: Mode = "batch") -> Float[Array, "n classes"]:
        """Return the logits."""
        x = images
        for stage, convolutions in enumerate(self.stages):
            for _ in range(convolutions):
                x = nn.relu(Convolution(stage_width(self.width, stage))(x))
            x = halved(x)
        x = x.reshape(len(x), -1)
        x = nn.relu(Normalization(self.norm)(self._linear(self.hidden)(x), mode=mode))
        x = nn.Dropout(self.dropout, deterministic=mode == "running")(x)
        x = nn.relu(self._linear(self.hidden)(x))
        x = nn.Dropout(self.dropout, deterministic=mode == "running")(x)
        return self._linear(self.classes)(x)

    def _linear(self, features: int) -> nn.Dense:
        return nn.Dense(features, kernel_init=nn.initializers.normal(0.01))


def stage_width(width: int, stage: int) -> int:
    """Return the channels of a stage: the width doubles with every pooling, to at most 8 times."""
    return width * min(2**stage, 8)


def halved(x: Float[Array, "n h w channels"]) -> Float[Array, "n h_out w_out channels"]:
    """Return the maxima over 2×2 positions; images that are one position wide already stay as they are."""
    return max_pool(x) if min(x.shape[1:3]) > 1 else x
