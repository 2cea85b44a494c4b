"""VGG-A with a normalizer after every convolution and hidden linear layer (arXiv 1805.11604)."""

from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.models.convolution import Convolution
from bnjax.models.normalizer import Normalization
from bnjax.models.vgg import VGG11, halved, stage_width
from bnjax.normalizers import Normalizer, identity
from bnjax.normalizers.normalizer import Mode


class VGGA(nn.Module):
    """Eight 3×3 convolutions and a classifier shrunk to 512, each layer but the last → normalizer → ReLU.

    Glorot initialization, biases from 0.

    Attributes:
        classes: number of logits.
        norm: the normalizer.
        width: channels of the first stage; the others have 2, 4, 8 and 8 times as many, the classifier 8 times.
    """

    classes: int = 10
    norm: Normalizer = identity()
    width: int = 64

    @nn.compact
    def __call__(self, images: Float[Array, "n h w channels"], *, mode: Mode = "batch") -> Float[Array, "n classes"]:
        """Return the logits."""
        initializer, x = nn.initializers.glorot_normal(), images
        for stage, convolutions in enumerate(VGG11):
            for _ in range(convolutions):
                x = Convolution(stage_width(self.width, stage), kernel_init=initializer)(x)
                x = nn.relu(Normalization(self.norm)(x, mode=mode))
            x = halved(x)
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = nn.Dense(8 * self.width, kernel_init=initializer)(x)
            x = nn.relu(Normalization(self.norm)(x, mode=mode))
        return nn.Dense(self.classes, kernel_init=initializer)(x)
