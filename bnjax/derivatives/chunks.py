"""How are the rows of a batch worked on, a few at a time? In chunks that are strided over the batch.

Of n rows in S chunks the chunk number s has the rows s, s + S, s + 2S, …: where the rows are spread over devices, every
chunk has some of each. Where S does not divide n, the last chunks take rows from the beginning again, so that all are
of one size and compiled once; what comes of these is left out.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def map_chunks(function: Callable[[Any], Any], rows: Any, *, at_once: int | None) -> Any:
    """Return `function(rows)`, of at most `at_once` rows at a time.

    Args:
        function: what to do with some rows, each for itself: from a tree of arrays with rows first to another.
        rows: such a tree, of all rows.
        at_once: how many rows; None means all.
    """
    count = len(jax.tree.leaves(rows)[0])
    if at_once is None or count <= at_once:
        return function(rows)
    chunks = jax.lax.map(function, _strided(rows, count, at_once))
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1).reshape(-1, *leaf.shape[2:])[:count], chunks)


def sum_chunks(
    function: Callable[[Any, Array], Array], rows: Any, weights: Float[Array, " n"], *, at_once: int | None
) -> Array:
    """Return `function(rows, weights)`, a weighted sum over rows, as a sum of those of at most `at_once` rows.

    Args:
        function: from a tree of arrays with rows first, and a weight for each row, to the weighted sum.
        rows: such a tree, of all rows; it may be empty.
        weights: of all rows.
        at_once: how many rows; None means all.
    """
    count = len(weights)
    if at_once is None or count <= at_once:
        return function(rows, weights)
    chunks, weights = _strided((rows, weights), count, at_once)
    steps, size = weights.shape
    numbers = jnp.arange(steps * size).reshape(size, steps).T
    weighted = chunks, jnp.where(numbers < count, weights, 0)
    total = jax.eval_shape(function, *jax.tree.map(lambda leaf: leaf[0], weighted))

    def add(total: Array, chunk: tuple) -> tuple[Array, None]:
        return total + function(*chunk), None

    return jax.lax.scan(add, jnp.zeros(total.shape, total.dtype), weighted)[0]


def _strided(rows: Any, count: int, at_once: int) -> Any:
    """Return every array of a tree, of so many rows, as chunks of the shape (steps, size, …)."""
    steps = -(-count // at_once)
    size = -(-count // steps)

    def chunks(leaf: Array) -> Array:
        leaf = jnp.concatenate([leaf, leaf[: steps * size - count]])
        return jnp.swapaxes(leaf.reshape(size, steps, *leaf.shape[1:]), 0, 1)

    return jax.tree.map(chunks, rows)
