"""How does a normalizer stand in a Flax model? One linen module wraps any of them."""

from flax import linen as nn
from jaxtyping import Array

from bnjax.models.statistics import declare_statistics, update_statistics
from bnjax.normalizers.normalizer import Mode, Normalizer

# The collection that takes what `Affine.slope` is in a call, where it is mutable; no call reads it.
SLOPES = "slopes"


class Normalization(nn.Module):
    """A normalizer as a linen module.

    Its parameters are in the collection `params`, its statistics in `batch_stats` (make that mutable in batch mode),
    the key of a noisy one comes from the stream `noise` (or, as flax has it, from `params` where there is no other).
    What the affine phase multiplied by is put in `slopes`, where that is mutable, too.

    Attributes:
        norm: the normalizer, such as `batch_norm()`.
    """

    norm: Normalizer

    @nn.compact
    def __call__(self, x: Array, *, mode: Mode = "batch") -> Array:
        """Apply the normalizer in `mode` "batch" or "running"."""
        if self.is_initializing():
            initial_params, initial_stats = self.norm.init(x)
            for name, value in initial_params.items():
                self.param(name, lambda _, value=value: value)
            declare_statistics(self, initial_stats)
        params, stats = (self.variables.get(collection, {}) for collection in ("params", "batch_stats"))
        key = self.make_rng("noise") if self.has_rng("noise") or self.has_rng("params") else None
        y, updated = self.norm.apply(params, stats, x, mode=mode, key=key)
        update_statistics(self, updated)
        if self.is_mutable_collection(SLOPES) and not self.is_initializing():
            self.put_variable(SLOPES, "slope", self.norm.affine(params, x, mode=mode, key=key).slope)
        return y
