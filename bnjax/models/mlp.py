"""A multilayer perceptron with a normalizer before every ReLU."""

from collections.abc import Sequence

from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.models.normalizer import Normalization
from bnjax.normalizers import Normalizer, identity
from bnjax.normalizers.normalizer import Mode


class MLP(nn.Module):
    """Linear → normalizer → ReLU for every hidden width, then Linear to the logits.

    Attributes:
        hidden: widths of the hidden layers.
        classes: number of logits.
        norm: the normalizer.
    """

    hidden: Sequence[int] = (64, 64)
    classes: int = 10
    norm: Normalizer = identity()

    @nn.compact
    def __call__(self, images: Float[Array, "n ..."], *, mode: Mode = "batch") -> Float[Array, "n classes"]:
        """Return the logits; images of any shape are flattened."""
        x = images.reshape(len(images), -1)
        for width in self.hidden:
            x = nn.relu(Normalization(self.norm)(nn.Dense(width)(x), mode=mode))
        return nn.Dense(self.classes)(x)
