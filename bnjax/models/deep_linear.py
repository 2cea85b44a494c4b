"""The deep linear network of arXiv 1805.11604: 25 square matrices, with or without normalizers between them."""

from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.models.normalizer import Normalization
from bnjax.normalizers import Normalizer, identity
from bnjax.normalizers.normalizer import Mode


class DeepLinear(nn.Module):
    """`W_depth … W_1 x`, a normalizer after every matrix but the last; Glorot initialization, no biases.

    Attributes:
        depth: number of matrices.
        features: width of all layers.
        norm: the normalizer.
    """

    depth: int = 25
    features: int = 10
    norm: Normalizer = identity()

    @nn.compact
    def __call__(self, x: Float[Array, "n features"], *, mode: Mode = "batch") -> Float[Array, "n features"]:
        """Return the product of all matrices with each row."""
        for layer in range(self.depth):
            x = nn.Dense(self.features, use_bias=False, kernel_init=nn.initializers.glorot_normal())(x)
            if layer < self.depth - 1:
                x = Normalization(self.norm)(x, mode=mode)
        return x
