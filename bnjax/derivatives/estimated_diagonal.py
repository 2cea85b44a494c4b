"""What is the diagonal of a Hessian too large for all of its columns? An estimate, from a few products.

For a vector v of random signs `E[v ∘ Hv] = diag H`, and the entry d has the variance `Σ_{e≠d} H_de²` (Bekas,
Kokiopoulou and Saad, Applied Numerical Mathematics 57, 2007).
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from matfree import stochtrace

from bnjax.derivatives.chunks import map_chunks
from bnjax.derivatives.expansion import ColumnHessian
from bnjax.integers import is_integer

# A spread of leave-one-out estimates, each itself made of pairs.
FEWEST_PROBES = 3


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Probes:
    """Random signs to estimate the diagonals of the rows' Hessians with, of every row its own; a pytree.

    Attributes:
        count: how many products with the Hessian of a row; at least 3, for a spread. It pays where a row has several
            thousand entries, many times as many as these: below, the exact diagonal takes no longer. An interval's
            width falls like 1/√count, where the estimate is far from zero, and like 1/count where it is not.
        key: one random key.
    """

    count: int = field(metadata={"static": True})
    key: Array

    def samples(self, hessian: ColumnHessian, row: Array) -> Float[Array, "count ..."]:
        """Return `v ∘ Hv` for each of the signs v that belong to the row of this number."""
        signs = stochtrace.sampler_signs(hessian.point, num=self.count)(jax.random.fold_in(self.key, row))
        entries = stochtrace.monte_carlo_diagonal()
        return map_chunks(jax.vmap(lambda v: entries(hessian.product, v)), signs, at_once=hessian.chunk)


def check_probes(probes: Probes | None) -> None:
    """Raise TypeError or ValueError unless it is None, or probes with a count of at least 3 and a random key."""
    if probes is None:
        return
    if not isinstance(probes, Probes):
        raise TypeError(f"probes needs to be Probes(count, key), got {probes!r}")
    if not is_integer(probes.count):
        raise TypeError(f"probes.count needs to be an integer, got {probes.count!r}")
    if probes.count < FEWEST_PROBES:
        raise ValueError(
            f"probes.count needs to be at least {FEWEST_PROBES}, for a spread, got {probes.count}; without probes the "
            "diagonal is exact"
        )
    is_key = isinstance(probes.key, jax.Array) and jnp.issubdtype(probes.key.dtype, jax.dtypes.prng_key)
    if not is_key or probes.key.ndim:
        raise TypeError(f"probes.key needs to be one random key, such as jax.random.key(0), got {probes.key!r}")
