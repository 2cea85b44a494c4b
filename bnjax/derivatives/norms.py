"""How large is a gradient? Frobenius norms that neither overflow nor vanish, with a derivative also at zero."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def norms(stacked: Float[Array, "p ..."]) -> Float[Array, " p"]:
    """Return the Frobenius norm of each of p stacked arrays.

    The entries are scaled before they are squared. At an array of zeros the derivative is 0. The norm of
    an array with an infinite entry is NaN.
    """
    axes = tuple(range(1, stacked.ndim))
    size = jax.lax.stop_gradient(_size(stacked, axis=axes, keepdims=True))
    unit = jnp.where(size == 0, 1.0, size)
    squares = jnp.sum(jnp.square(stacked / unit), axis=axes)
    zero = squares == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squares))) * unit.ravel()


def tree_norm(tree: Any) -> Float[Array, ""]:
    """Return the norm of all numbers of a tree together."""
    return norms(jnp.stack([norms(leaf[None])[0] for leaf in jax.tree.leaves(tree)])[None])[0]


def over_largest(tree: Any) -> Any:
    """Return a tree divided by about the size of its largest number: squares of it neither overflow nor vanish.

    Each leaf keeps its dtype. A tree of zeros, which has no direction, comes out as NaN.
    """
    size = reduce(jnp.maximum, map(_size, jax.tree.leaves(tree)))
    return jax.tree.map(lambda leaf: (leaf / size).astype(leaf.dtype), tree)


def _size(array: Array, **options: Any) -> Array:
    """Return about the size of the largest number of an array, to divide by; NaN where one is not finite."""
    largest = jnp.max(jnp.abs(array), initial=0.0, **options)
    # Divisions are compiled as products with 1/size, which is rounded to 0 where it is below `tiny`.
    limit = 1 / float(jnp.finfo(array.dtype).tiny)
    return jnp.where(jnp.isfinite(largest), jnp.minimum(largest, limit), jnp.nan)
