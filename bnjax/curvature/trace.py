"""What do a Hessian's eigenvalues add up to? Its trace by Hutch++, from products alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from bnjax.compilation import in_full_precision
from bnjax.curvature.hessian_product import flattened
from bnjax.integers import check_integers


class TraceEstimate(NamedTuple):
    """An estimate of a trace.

    Attributes:
        value: the estimate, without bias.
        standard_error: of `value`, from its random rest; 0 where the subspace held everything.
    """

    value: Float[Array, ""]
    standard_error: Float[Array, ""]


@in_full_precision
def trace(
    hessian_product: Callable[[Any], Any], like: Any, key: Array, *, rank: int = 10, samples: int = 10
) -> TraceEstimate:
    """Return the trace of a symmetric matrix: exact on a random subspace, sampled on the rest (Hutch++).

    With Q an orthonormal basis of H S, S of `rank` random columns, and P = I - Q Qᵀ it is `tr(Qᵀ H Q)` plus the mean of
    `gᵀ P H P g` over `samples` random g of signs (Meyer et al., arXiv 2010.09649). It takes 2 · rank + samples
    products.

    Args:
        hessian_product: `direction ↦ H direction`, trees like `like`.
        like: a tree of the parameters' shapes.
        key: the random key.
        rank: dimensions of the subspace.
        samples: of the rest, at least 2.

    Raises:
        TypeError: parameters that are not all floating-point numbers, a rank or samples that are no integer.
        ValueError: a rank that is not between 1 and the number of parameters, or fewer than 2 samples.
    """
    flat, unravel = flattened(like)
    check_integers(rank=rank, samples=samples)
    if not 1 <= rank <= flat.size:
        raise ValueError(f"rank needs to be between 1 and the {flat.size} numbers of the parameters, got {rank}")
    if samples < 2:
        raise ValueError(f"samples needs to be at least 2, for a spread, got {samples}")

    def products(directions: Float[Array, "count size"]) -> Float[Array, "count size"]:
        return jax.lax.map(lambda direction: ravel_pytree(hessian_product(unravel(direction)))[0], directions)

    subspace_key, rest_key = jax.random.split(key)
    seen = products(jax.random.rademacher(subspace_key, (rank, flat.size), flat.dtype))
    basis = jnp.linalg.qr(seen.T)[0].T
    rest = jax.random.rademacher(rest_key, (samples, flat.size), flat.dtype)
    rest -= (rest @ basis.T) @ basis
    # In one call: every call is a copy of the product to compile.
    both = jnp.concatenate([basis, rest])
    of_subspace, of_rest = jnp.split(jnp.sum(both * products(both), axis=1), [rank])
    value = jnp.sum(of_subspace) + jnp.mean(of_rest)
    return TraceEstimate(value, jnp.std(of_rest, ddof=1) / jnp.sqrt(samples))
