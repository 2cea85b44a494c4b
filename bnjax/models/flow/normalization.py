"""How does a normalizer stand inside a flow? Standardization with its log-determinant, and its inverse."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.models.flow.pixels import Transformed
from bnjax.models.statistics import declare_statistics, update_statistics
from bnjax.normalizers import Normalizer
from bnjax.normalizers.normalizer import Mode, Stats


class FlowNormalization(nn.Module):
    """A normalizer's standardization `ŷ = (x - μ) / s` as a bijection; its affine phase is left out.

    The log-determinant of a row is `-Σ log s` over its entries: that of statistics that do not depend on the row. With
    the statistics of the batch itself the joint map of all rows has another one: it is singular, since it forgets every
    feature's mean, and at epsilon 0 its scale (docs/theory.md, R1).

    Attributes:
        norm: a normalizer that keeps running statistics, by which it is inverted.
        whole_batch: whether all numbers of the batch count as one feature, with one mean and one scale.
    """

    norm: Normalizer
    whole_batch: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n h w features"], *, mode: Mode) -> Transformed:
        """Standardize by the statistics of the batch or the running ones, and update these in batch mode.

        Raises:
            ValueError: the normalizer keeps no running statistics.
        """
        viewed = self._viewed(x)
        if self.is_initializing():
            initial: Stats = self.norm.init(viewed)[1]
            if not initial:
                raise ValueError(
                    f"a normalizer inside a flow needs running statistics to be inverted by, got {self.norm.name} that "
                    "keeps none; use one of the batch normalizers, with whole_batch=True for one scale in all"
                )
            declare_statistics(self, initial)
        standardized, updated = self.norm.standardize(self._stats(), viewed, mode=mode, key=None)
        update_statistics(self, updated)
        log_scales = jnp.log(jnp.broadcast_to(standardized.scale, viewed.shape)).reshape(len(x), -1)
        return Transformed(standardized.values.reshape(x.shape), -jnp.sum(log_scales, axis=1))

    def inverse(self, y: Float[Array, "n h w features"]) -> Float[Array, "n h w features"]:
        """Return `s y + μ` with the running statistics."""
        viewed = self._viewed(y)
        # Running statistics make an affine map of it: the value at 0 and the scale tell all.
        at_zero, _ = self.norm.standardize(self._stats(), jnp.zeros_like(viewed), mode="running", key=None)
        return ((viewed - at_zero.values) * at_zero.scale).reshape(y.shape)

    def _viewed(self, x: Array) -> Array:
        return x.reshape(len(x), -1, 1) if self.whole_batch else x

    def _stats(self) -> Any:
        return self.variables["batch_stats"]
