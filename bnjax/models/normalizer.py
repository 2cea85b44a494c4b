"""How does a normalizer stand in a Flax model? One linen module wraps any of them."""

from flax import linen as nn
from jaxtyping import Array

from bnjax.normalizers.normalizer import Mode, Normalizer


class Normalization(nn.Module):
    """A normalizer as a linen module.

    Its parameters are in the collection `params`, its statistics in `batch_stats` (make that mutable in batch mode),
    the key of a noisy one comes from the stream `noise`.

    Attributes:
        norm: the normalizer, such as `batch_norm()`.
    """

    norm: Normalizer

    @nn.compact
    def __call__(self, x: Array, *, mode: Mode = "batch") -> Array:
        """Apply the normalizer in `mode` "batch" or "running"."""
        initial_params, initial_stats = self.norm.init(x)
        params = {name: self.param(name, lambda _, value=value: value) for name, value in initial_params.items()}
        stats = {
            name: self.variable("batch_stats", name, lambda value=value: value) for name, value in initial_stats.items()
        }
        key = self.make_rng("noise") if self.has_rng("noise") else None
        current = {name: variable.value for name, variable in stats.items()}
        y, updated = self.norm.apply(params, current, x, mode=mode, key=key)
        if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
            for name, variable in stats.items():
                variable.value = updated[name]
        return y
