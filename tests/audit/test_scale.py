"""What an audit takes of memory: the rest of the model for a few rows at a time, the statistics of all of them."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import bnjax
from bnjax.derivatives import LogitsHead, RowHeads, terms
from bnjax.derivatives.heads import softmax_cross_entropy
from tests.audit.models import EXAMPLES, Example, drawn, row_loss
from tests.test_blocking import parts_of

ROWS = (0, 1, 2, 3, 4)
PIECEWISE_LINEAR, CURVED = "residual, another behind", "over other axes"


@cache
def audited(name: str, row_chunk: int | None, chosen: tuple[int, ...] = ROWS):
    example: Example = EXAMPLES[name]
    variables, inputs = drawn(example.model, (len(ROWS), *example.shape[1:]))
    labels, rows = np.arange(len(ROWS)) % 3, np.array(chosen)
    taken = jax.device_put((np.asarray(inputs)[rows], labels[rows]))
    options = {"loss": row_loss, "layer": example.layer, "apply_kwargs": example.apply_kwargs, "expansion_point": 0.3}
    rngs = {"dropout": jax.random.key(5)}
    return bnjax.audit(example.model, variables, *taken, **options, rngs=rngs, row_chunk=row_chunk, chunk=5)


def difference(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(("name", "row_chunk"), [(PIECEWISE_LINEAR, 1), (PIECEWISE_LINEAR, 2), (CURVED, 2)])
def test_rows_in_chunks_give_the_report_of_all_at_once(name, row_chunk):
    whole, in_chunks = parts_of(audited(name, None)), parts_of(audited(name, row_chunk))
    for key, part in whole.items():
        size = np.linalg.norm(whole[key[0], "total"].input_gradient)
        assert np.linalg.norm(np.asarray(in_chunks[key].input_gradient) - part.input_gradient) <= 1e-12 * size
        assert abs(in_chunks[key].survival - part.survival) <= 1e-12


def test_parts_of_a_batch_audited_apart_are_another_function():
    whole = audited(CURVED, None)
    apart = [audited(CURVED, None, rows) for rows in (ROWS[:2], ROWS[2:4])]
    joined, expected = np.concatenate([report.total_gradient for report in apart]), np.asarray(whole.total_gradient)
    assert difference(joined, expected[:4]) > 0.1
    assert difference(np.asarray(audited(CURVED, 2).total_gradient), expected) < 1e-12


HIDDEN, FEATURES = 3000, 4
WEIGHTS = jnp.ones((FEATURES, HIDDEN)), jnp.ones((HIDDEN, 3))


def relu_logits(weights, row, context):
    return jax.nn.relu(row @ weights[0] + context) @ weights[1]


def tanh_loss(weights, row, context, label):
    return softmax_cross_entropy(jnp.tanh(row @ weights[0] + context) @ weights[1], label)


HEADS = {
    "low rank": (LogitsHead(Partial(relu_logits, WEIGHTS), Partial(softmax_cross_entropy), context=1), 3),
    "columns": (Partial(tanh_loss, WEIGHTS), 2),
}


def temporary_bytes(head, rows: int, row_chunk: int | None) -> int:
    """Return what the compiled terms need beside their arguments and results."""
    one = jnp.ones((1, 1))
    heads = RowHeads(head, one, 0 * one, (jnp.ones((rows, 1)), jnp.zeros(rows, int)))
    compiled = jax.jit(partial(terms, feature_axis=-1, chunk=2, row_chunk=row_chunk))
    program = compiled.lower(heads, jnp.zeros(FEATURES), jnp.ones((rows, FEATURES))).compile()
    analysis: Any = program.memory_analysis()
    return analysis.temp_size_in_bytes


@pytest.mark.parametrize("name", HEADS)
def test_memory_grows_with_the_rows_at_once_and_not_with_the_rows_beyond_the_stated_arrays(name):
    head, kept = HEADS[name]
    few, twice = (temporary_bytes(head, 32, row_chunk) for row_chunk in (4, 8))
    more = temporary_bytes(head, 128, 4)
    of_one_row = 8 * HIDDEN
    assert 4 * of_one_row <= twice - few
    assert more - few <= 8 * (30 + kept) * (128 - 32) * FEATURES < of_one_row * (128 - 32) / 20
    assert temporary_bytes(head, 128, None) >= 128 * of_one_row
