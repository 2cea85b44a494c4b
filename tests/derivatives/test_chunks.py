"""Rows in chunks: every row once, whatever the size of a chunk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.derivatives.chunks import map_chunks, sum_chunks
from tests.comparison import assert_close

ROWS = {"a": np.arange(14.0).reshape(7, 2), "b": np.arange(7)}


@pytest.mark.parametrize("at_once", [None, 1, 3, 4, 7, 9])
def test_what_is_done_by_row_comes_back_in_the_order_of_the_rows(at_once):
    sizes = []

    def function(rows):
        sizes.append(len(rows["b"]))
        return rows["a"] + rows["b"][:, None], rows["b"] ** 2

    found = jax.jit(lambda rows: map_chunks(function, rows, at_once=at_once))(ROWS)
    assert_close(found[0], ROWS["a"] + ROWS["b"][:, None])
    assert_close(found[1], ROWS["b"] ** 2)
    assert sizes[0] <= (at_once or 7)


@pytest.mark.parametrize("at_once", [None, 1, 3, 4, 7])
def test_a_sum_counts_every_row_once(at_once):
    weights = np.cos(np.arange(7.0))

    @jax.jit
    def weighted_sum(rows, weights):
        return sum_chunks(lambda rows, weights: weights @ rows["a"], rows, weights, at_once=at_once)

    assert_close(weighted_sum(ROWS, weights), weights @ ROWS["a"])


def test_every_chunk_has_rows_from_all_of_the_batch():
    chunks = []
    with jax.disable_jit():
        map_chunks(lambda rows: chunks.append(rows.tolist()) or rows, jnp.arange(8), at_once=4)
    assert chunks == [[0, 2, 4, 6], [1, 3, 5, 7]]
