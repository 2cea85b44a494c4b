"""The named terms and their parts are those of the definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.derivatives import PARTS, TERM_PARTS, TERMS, LogitsHead, RowHeads
from bnjax.derivatives.heads import softmax_cross_entropy
from tests.comparison import assert_close
from tests.derivatives.cases import (
    CASES,
    HEADS,
    ROWS,
    SECOND,
    compiled_terms,
    features,
    hidden,
    labels,
    reference,
    sorted_terms,
)

every_case = pytest.mark.parametrize("name", CASES)


@every_case
def test_every_part_has_the_value_and_the_gradient_of_its_definition(name):
    found, wanted = sorted_terms(name), reference(name)
    assert set(wanted) == set(TERM_PARTS)
    for index, key in enumerate(TERM_PARTS):
        scale = max(1.0, float(np.abs(wanted[key[0], "total"].output_gradient).max()))
        assert_close(found.values[index], wanted[key].value, order=2, scale=scale)
        assert_close(found.gradients[index], wanted[key].output_gradient, order=2, scale=scale)


@every_case
def test_the_terms_add_up_to_the_loss_and_its_gradient(name):
    found = sorted_terms(name)
    totals = [TERM_PARTS.index((term, "total")) for term in TERMS]
    assert_close(np.sum(found.gradients[totals], axis=0), found.loss_gradient, order=1)
    assert_close(np.sum(found.values[totals]) + np.sum(found.center_losses), np.sum(found.losses), scale=100.0)


@every_case
def test_shared_and_individual_add_up_to_the_total(name):
    found = sorted_terms(name)
    for term in TERMS[:-1]:
        total, shared, individual = (TERM_PARTS.index((term, part)) for part in PARTS)
        assert_close(found.gradients[shared] + found.gradients[individual], found.gradients[total])
        assert_close(found.values[shared] + found.values[individual], found.values[total], scale=100.0)


def heads_of_rows(head, shape, row_labels):
    one = jnp.ones((1,) * len(shape))
    return RowHeads(jax.tree_util.Partial(head), one, 0 * one, (row_labels,))


@pytest.mark.parametrize("head", ["tanh", "relu"])
def test_in_a_single_class_batch_every_individual_part_is_zero_to_the_stated_rounding(head):
    row_heads = heads_of_rows(HEADS[head], ROWS, jnp.ones(6, int))
    found = jax.device_get(compiled_terms(row_heads, jnp.zeros(4), features(ROWS), feature_axis=-1))
    for term in TERMS[:-1]:
        index = TERM_PARTS.index((term, "individual"))
        assert np.linalg.norm(found.gradients[index]) <= found.rounding[index]


def test_behind_piecewise_linear_logits_the_labels_do_not_touch_the_second_order():
    mixed, single = (
        compiled_terms(heads_of_rows(HEADS["relu"], ROWS, row_labels), jnp.zeros(4), features(ROWS), feature_axis=-1)
        for row_labels in (labels(6), jnp.zeros(6, int))
    )
    second_order = slice(TERM_PARTS.index(("diagonal", "total")), TERM_PARTS.index(("remainder", "total")))
    assert_close(np.asarray(mixed.gradients)[second_order], np.asarray(single.gradients)[second_order])


def test_a_chunk_of_columns_is_as_good_as_all_at_once():
    arguments = heads_of_rows(HEADS["tanh"], ROWS, labels(6)), jnp.zeros(4), features(ROWS)
    in_chunks = compiled_terms(*arguments, feature_axis=-1, chunk=3)
    assert_close(in_chunks.gradients, compiled_terms(*arguments, feature_axis=-1).gradients, order=2)


@every_case
def test_rows_in_chunks_that_do_not_divide_them_give_the_same(name):
    found, wanted = sorted_terms(name, row_chunk=2), reference(name)
    assert len(found.losses) == 3
    for index, key in enumerate(TERM_PARTS):
        scale = max(1.0, float(np.abs(wanted[key[0], "total"].output_gradient).max()))
        assert_close(found.values[index], wanted[key].value, order=2, scale=scale)
        assert_close(found.gradients[index], wanted[key].output_gradient, order=2, scale=scale)


def test_logits_that_take_an_argument_of_the_row_give_the_terms_of_the_same_black_box():
    def logits(row, context):
        return (jax.nn.relu(hidden(row) + context) + context) @ SECOND

    context, one = features((6, 5), seed=2), jnp.ones((1, 1))
    shown = LogitsHead(jax.tree_util.Partial(logits), jax.tree_util.Partial(softmax_cross_entropy), context=1)
    black_box = jax.tree_util.Partial(lambda *arguments: shown(*arguments))
    found, expected = (
        compiled_terms(
            RowHeads(head, one, 0 * one, (context, labels(6))), 0.2 * jnp.ones(4), features(ROWS), feature_axis=-1
        )
        for head in (shown, black_box)
    )
    assert_close(found.gradients, expected.gradients, order=2)
    assert_close(found.values, expected.values, order=2)
