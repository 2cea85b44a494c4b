"""What does a normalizer do to each row of a batch, once its statistics are known? An affine map of the entries."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnjax.normalizers import Normalizer
from bnjax.normalizers.normalizer import Params, Stats

# By how many roundings two ways to compute the same may differ.
ROUNDINGS = 100


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Held:
    """The map `y = slope · (x - center) + offset`, entry by entry; axis 0 has the length of that of `x`, or 1.

    Of a number there is no axis 0; it counts as one of length 1.

    Attributes:
        center: an array that broadcasts to `x` (no annotation says so, for JAX takes pytrees apart).
        slope: likewise.
        offset: likewise.
        dtype: of `y`.
    """

    center: Any
    slope: Any
    offset: Any
    dtype: Any = field(metadata={"static": True})

    def __call__(self, x: Array) -> Array:
        """Return `y`."""
        return (self.slope * (x - self.center) + self.offset).astype(self.dtype)

    @property
    def length(self) -> int:
        """How many entries of axis 0 it tells apart, 1 if it is the same for all."""
        return max(length(leaf) for leaf in (self.center, self.slope, self.offset))

    def by_row(self, rows: int) -> "Held":
        """Return the parts of the rows, one of each; a row may have several entries of axis 0, one after another."""

        def split(leaf: Array) -> Array:
            own = (-1, *leaf.shape[1:]) if leaf.ndim else ()
            parts = leaf.reshape(1 if length(leaf) == 1 else rows, *own)
            return jnp.broadcast_to(parts, (rows, *parts.shape[1:]))

        return jax.tree.map(split, self)


def length(x: Array) -> int:
    """Return the length of axis 0, 1 for a number."""
    return len(x) if x.ndim else 1


class AtWork(NamedTuple):
    """A normalizer in batch mode on one input.

    Attributes:
        values: ŷ.
        scale: what the input was divided by.
        center: what is left of the input without the part that was divided, `x - scale · ŷ`.
        slope: of the affine phase.
        offset: of the affine phase.
    """

    values: Float[Array, "n ..."]
    scale: Float[Array, "..."]
    center: Float[Array, "n ..."]
    slope: Float[Array, "..."]
    offset: Float[Array, "..."]

    def output(self) -> Float[Array, "n ..."]:
        """Return what leaves the normalizer."""
        return self.slope * self.values + self.offset

    def held(self, dtype: Any) -> Held:
        """Return what the normalizer does to rows if its statistics are held."""
        # The center is the same along the axes of the statistics.
        first = tuple(slice(0, 1) if size == 1 else slice(None) for size in self.scale.shape)
        return Held(self.center[first], self.slope / self.scale, self.offset, jnp.dtype(dtype))

    def error(self, output: Float[Array, "n ..."], *, fast_variance: bool) -> Float[Array, ""]:
        """Return the largest difference of `output` from that of the normalizer, in units of what rounding allows.

        Rounding grows with mean / deviation, or with its square where the variance is `E[x²] - E[x]²`
        (docs/theory.md, numerical traps).
        """
        lost = 1 + (jnp.abs(self.center) / self.scale) ** (2 if fast_variance else 1)
        size = jnp.abs(self.slope) * (1 + jnp.abs(self.values)) * lost + jnp.abs(self.offset)
        limits = jnp.finfo(output.dtype)
        return jnp.max(jnp.abs(output - self.output()) / (ROUNDINGS * limits.eps * size + limits.tiny))


def at_work(normalizer: Normalizer, params: Params, stats: Stats, x: Float[Array, "n ..."]) -> AtWork:
    """Return what a normalizer without noise makes of `x` in batch mode."""
    values, scale = normalizer.standardize(stats, x, mode="batch", key=None)[0]
    return AtWork(values, scale, x - scale * values, *normalizer.affine(params, x, mode="batch", key=None))
