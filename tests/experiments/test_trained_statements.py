"""What is measured of a trained network is its own gradient, and a missed statement is seen."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnjax.models import MLP, passages
from bnjax.normalizers import batch_norm
from bnjax.training import initial_state
from experiments.trained_statements import FORMS, _measured, _table
from tests.comparison import assert_close

MODEL = MLP((4, 3), norm=batch_norm(epsilon=0.0), classes=3)


@jax.jit
def pulled_back(x, gradient):
    plain = batch_norm(epsilon=0.0, affine=False)
    return jax.vjp(lambda x: plain.apply(*plain.init(x), x)[0], x)[1](gradient)[0]


def test_both_sides_of_the_gradient_norm_are_those_of_the_networks_own_gradients():
    images = jnp.asarray(np.sin(np.arange(7 * 5.0).reshape(7, 5)))
    labels = jnp.asarray(np.arange(7) % 3)
    state = initial_state(MODEL, optax.sgd(0.1), jax.random.key(0), images)
    params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, float) + 0.1), state.params)
    state = state._replace(params=params)

    def loss(logits):
        return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    variables = {"params": params, "batch_stats": state.stats}
    passing = jax.jit(lambda variables: passages(MODEL, variables, images, loss))(variables)
    rows = [row for row in _measured(MODEL, state, images, labels) if (row["statement"], row["form"]) == FORMS[0]]
    for layer, (name, passage) in enumerate(passing.items(), start=1):
        arriving = np.asarray(pulled_back(passage.features, passage.gradient))
        # In units of γ/σ, which carry no γ any more.
        expected = np.sum((arriving * np.std(np.asarray(passage.features), axis=0)) ** 2, axis=0)
        own = [row for row in rows if row["layer"] == layer]
        assert len(own) == len(params[name]["scale"])
        assert_close(np.asarray([row["left"] for row in own]), expected, order=1)
        assert_close(np.asarray([row["right"] for row in own]), expected, order=1)


@pytest.mark.parametrize(("statement", "holds"), [("S1", False), ("S3", True)])
def test_an_inequality_may_be_missed_to_one_side_and_an_equality_to_none(statement, holds):
    row = {"epoch": 0, "left": 1.0, "right": 2.0, "size": 4.0, "applies": True}
    rows = [{**row, "statement": name, "form": form} for name, form in FORMS]
    (found,) = [row for row in _table(rows) if (row["statement"], row["form"]) == (statement, "derived")]
    assert found["holds"] is holds
    assert found["missed_by_at_most"] == (-0.25 if holds else 0.25)


def test_features_at_which_the_hypothesis_fails_are_counted_and_not_compared():
    of_one = {"epoch": 0, "left": 2.0, "right": 1.0, "size": 4.0}
    rows = [
        {**of_one, "statement": name, "form": form, "applies": applies}
        for (name, form), applies in product(FORMS, (True, False, False))
    ]
    of_none = [{**row, "applies": False} for row in rows]
    for kept, found, share in ((rows, 0.25, 1.0), (of_none, 0.0, 0.0)):
        (row,) = [row for row in _table(kept) if (row["statement"], row["form"]) == ("S3", "printed")]
        assert (row["missed_by_at_most"], row["violated_share"]) == (found, share)
        assert (row["applies"], row["features"], row["where_printed"]) == (share, 3, "theorem 4.2, second part")


def test_a_statement_that_is_about_no_feature_neither_holds_nor_fails():
    sides = {"left": 9.0, "right": 1.0, "size": 1.0, "applies": False}
    rows = [{"epoch": 0, "statement": statement, "form": form, **sides} for statement, form in FORMS]
    for row in _table(rows):
        assert (row["holds"], row["applies"], row["violated_share"]) == (None, 0, 0.0)
        assert row["reason"]
