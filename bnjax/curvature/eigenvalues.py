"""How is a Hessian's spectrum distributed? By Lanczos' method (matfree), from products alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float
from matfree import decomp

from bnjax.compilation import in_full_precision
from bnjax.curvature.hessian_product import flattened
from bnjax.derivatives.norms import over_largest, tree_norm
from bnjax.integers import check_integers


class RitzValues(NamedTuple):
    """What Lanczos' method finds of a symmetric matrix H from one start vector v, ‖v‖ = 1.

    Attributes:
        values: approximate eigenvalues, ascending; those at the ends are found first.
        weights: of a quadrature: vᵀ f(H) v ≈ Σ weights f(values), exact for polynomials of degree 2 · steps - 1. They
            add up to 1.
        error_bounds: within this distance of each value lies an eigenvalue of H: what the method has left out, plus
            `steps · eps · max |values|` for its rounding. What the products themselves have rounded is not in it.
    """

    values: Float[Array, "*starts steps"]
    weights: Float[Array, "*starts steps"]
    error_bounds: Float[Array, "*starts steps"]


@in_full_precision
def ritz_values(hessian_product: Callable[[Any], Any], start: Any, *, steps: int) -> RitzValues:
    """Return the Ritz values of so many products with a symmetric matrix, fully reorthogonalized.

    Where the products with the start span fewer dimensions than there are steps, to a part in 1/√eps, the method ends
    there: the largest of the values found is repeated with weight 0. All is NaN where `start` is 0 or its product not
    finite.

    Args:
        hessian_product: `direction ↦ H direction`, trees like `start`; of a unit vector the square of its length needs
            to be a number of its dtype.
        start: where to begin, not 0, of any length; random for the whole spectrum.
        steps: products to take; so many vectors of the size of `start` are kept.

    Raises:
        TypeError: a start that is not all floating-point numbers, or steps that are no integer.
        ValueError: no step, or more steps than `start` has numbers.
    """
    flat, unravel = flattened(start)
    check_integers(steps=steps)
    if not 1 <= steps <= flat.size:
        raise ValueError(f"steps needs to be between 1 and the {flat.size} numbers of the start, got {steps}")

    def flat_product(direction: Array) -> Array:
        return ravel_pytree(hessian_product(unravel(direction)))[0]

    # XLA would make one division of two, by the size and by the length, whose product may overflow.
    scaled = jax.lax.optimization_barrier(over_largest(flat))
    decomposed = decomp.tridiag_sym(steps, reortho="full", custom_vjp=False)(flat_product, scaled)
    return _of_tridiagonal(jnp.asarray(decomposed.J_small), tree_norm(decomposed.residual))


def _of_tridiagonal(tridiagonal: Float[Array, "steps steps"], residual: Float[Array, ""]) -> RitzValues:
    """Return the Ritz values of Lanczos' matrix up to where its next direction would be made of rounding."""
    steps, eps = len(tridiagonal), jnp.finfo(tridiagonal.dtype).eps
    # From where there is no next direction there may be numbers that are none; at the start that tells that there is
    # no direction at all.
    diagonal, beside = (
        jnp.where(jnp.isfinite(entries), entries, 0)
        for entries in (jnp.diag(tridiagonal), jnp.append(jnp.diag(tridiagonal, 1), residual))
    )
    size = jnp.maximum(jnp.max(jnp.abs(diagonal)), jnp.max(jnp.abs(beside)))
    goes_on = jnp.cumprod(beside > jnp.sqrt(eps) * size)
    found = jnp.minimum(1 + jnp.sum(goes_on), steps)
    places = jnp.arange(steps)
    # What was not found is put beyond all eigenvalues of the rest, to be last.
    diagonal = jnp.where(places < found, diagonal, 4 * size + 1)
    links = jnp.where(places[:-1] < found - 1, beside[:-1], 0)
    values, vectors = jnp.linalg.eigh(jnp.diag(diagonal) + jnp.diag(links, 1) + jnp.diag(links, -1))
    left_out = beside[found - 1] * jnp.abs(vectors[found - 1])
    rounding = steps * eps * size
    kept = jnp.minimum(places, found - 1)
    weights = jnp.where(places < found, vectors[0] ** 2, 0)
    ritz = RitzValues(values[kept], weights, left_out[kept] + rounding)
    begins = jnp.isfinite(tridiagonal[0, 0])
    return jax.tree.map(lambda numbers: jnp.where(begins, numbers, jnp.nan), ritz)


@in_full_precision
def spectral_density(
    ritz: RitzValues, at: Float[Array, " points"], *, width: ArrayLike
) -> tuple[Float[Array, " points"], Float[Array, " points"]]:
    """Return the density of a Hessian's eigenvalues, smoothed by a Gaussian, and its standard error.

    The density is `mean over starts of Σ weights · N(at; values, width²)` (stochastic Lanczos quadrature, Ghorbani et
    al., arXiv 1901.10159, algorithm 2); it integrates to 1.

    Args:
        ritz: of random starts, at least 2, stacked along the first axis.
        at: where to evaluate it.
        width: standard deviation of the Gaussian, in the units of the eigenvalues, positive (not checked inside of
            `jax.jit`).

    Raises:
        ValueError: Ritz values of fewer than 2 starts, or a width that is not positive.
    """
    if not isinstance(width, Tracer) and not np.all(np.asarray(width) > 0):
        raise ValueError(f"width needs to be positive, got {width}")
    if ritz.values.ndim != 2 or len(ritz.values) < 2:
        raise ValueError(f"a density needs Ritz values (starts, steps) of 2 starts or more, got {ritz.values.shape}")
    of_starts = jax.vmap(lambda values, weights: jax.scipy.stats.norm.pdf(at[:, None], values, width) @ weights)(
        ritz.values, ritz.weights
    )
    count = len(of_starts)
    return jnp.mean(of_starts, axis=0), jnp.std(of_starts, axis=0, ddof=1) / jnp.sqrt(count)
