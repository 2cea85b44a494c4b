"""The head that LeNet-5 and AlexNet share in arXiv 2205.15146: small blocks around one normalizer."""

from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.models.normalizer import Normalization
from bnjax.normalizers import Normalizer, identity
from bnjax.normalizers.normalizer import Mode

BLOCKS = 6


class SplitHead(nn.Module):
    """[Linear(20) → ReLU] × (7 - version) → normalizer → [Linear(20) → ReLU] × (version - 1) → Linear(classes).

    The depth is the same for every version; the higher it is, the more layers follow the normalizer. `LeNet` and
    `AlexNet` put their convolutions before the first block, in their `trunk`.

    Attributes:
        version: 1 to 4.
        classes: number of logits.
        norm: the normalizer of the 20 features.
        features: width of all blocks.
    """

    version: int = 1
    classes: int = 10
    norm: Normalizer = identity()
    features: int = 20

    def setup(self) -> None:
        """Build the blocks on both sides of the normalizer."""
        if self.version not in (1, 2, 3, 4):
            raise ValueError(f"version needs to be 1, 2, 3 or 4, got {self.version!r}")
        self.before = [nn.Dense(self.features) for _ in range(BLOCKS + 1 - self.version)]
        self.normalization = Normalization(self.norm)
        self.after = [nn.Dense(self.features) for _ in range(self.version - 1)]
        self.last = nn.Dense(self.classes)

    def trunk(self, x: Float[Array, "n ..."]) -> Float[Array, "n features"]:
        """Return the features before the normalizer."""
        for linear in self.before:
            x = nn.relu(linear(x))
        return x

    def head(self, y: Float[Array, "... features"]) -> Float[Array, "... classes"]:
        """Return the logits from the normalizer's output, of one row or of many."""
        for linear in self.after:
            y = nn.relu(linear(y))
        return self.last(y)

    def __call__(self, x: Float[Array, "n ..."], *, mode: Mode = "batch") -> Float[Array, "n classes"]:
        """Return the logits."""
        return self.head(self.normalization(self.trunk(x), mode=mode))
