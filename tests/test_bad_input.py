"""What the public calls refuse: the message says what was required, what came and what to do."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import bnjax
from bnjax.normalizers import (
    batch_norm,
    frozen_batch_norm,
    ghost_batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    lp_norm,
    noisy_batch_norm,
)
from tests.comparison import assert_close
from tests.derivatives.cases import HEADS, MAPS, ROWS, features, labels

pytestmark = pytest.mark.usefixtures("signatures_are_not_checked")

X, LABELS, LOSS = features(ROWS), labels(6), HEADS["relu"]
BATCH_NORM = batch_norm()


def diagonal_hessian(*arguments, **options):
    return bnjax.term_hessian(*arguments, term="diagonal", **options)


every_call = pytest.mark.parametrize(
    "call", [bnjax.blocking, bnjax.spectrum, diagonal_hessian], ids=["blocking", "spectrum", "term_hessian"]
)


def replaced(value, where=(2, 1)):
    return X.at[where].set(value)


def loss_of(row):
    """Return a loss that needs nothing but its row."""
    return jnp.sum(row**2)


FEATURES = {
    "one axis": (jnp.ones(4), BATCH_NORM, ValueError, r"features of shape \(rows, ..., features\), got shape \(4,\)"),
    "no axis": (3.0, BATCH_NORM, ValueError, r"features of shape \(rows, ..., features\), got shape \(\)"),
    "feature axis that is not there": (
        X,
        batch_norm(feature_axis=2),
        ValueError,
        r"feature_axis=2, but x of shape \(6, 4\) has its rows on axis 0 and features on one of the axes 1 to 1",
    ),
    "feature axis of the rows": (X, batch_norm(feature_axis=0), ValueError, "feature_axis=0, but x of shape"),
    "no positions": (X, instance_norm(), ValueError, r"at least 2 values for each row and feature \(its positions\)"),
    "one row": (X[:1], BATCH_NORM, ValueError, "at least 2 values for each feature in the batch, got 1: .*more rows"),
    "no row": (X[:0], BATCH_NORM, ValueError, r"at least one row and one feature, got shape \(0, 4\)"),
    "integers": (jnp.ones(ROWS, int), BATCH_NORM, TypeError, "real floating-point features, got dtype int64; convert"),
    "complex": (X + 1j, BATCH_NORM, TypeError, "real floating-point features, got dtype complex128"),
    "NaN": (replaced(jnp.nan), BATCH_NORM, ValueError, r"finite features, got nan at x\[2, 1\]; look for it upstream"),
    "infinite": (replaced(jnp.inf), BATCH_NORM, ValueError, r"finite features, got inf at x\[2, 1\]"),
    "constant feature at epsilon 0": (
        X.at[:, 2].set(0.1),
        batch_norm(epsilon=0.0),
        ValueError,
        "epsilon=0 needs features that vary.*zero variance.*; drop that feature or use epsilon > 0",
    ),
    "tie in l-infinity": (
        jnp.asarray([[1.0], [-1.0], [0.5], [-0.5]]),
        lp_norm(p=math.inf),
        ValueError,
        "farther from the mean than all others.*got 2 in feature 0; change the batch or use p = 1 or 2",
    ),
}


@every_call
@pytest.mark.parametrize("name", FEATURES)
def test_features_that_no_normalizer_takes_are_refused(name, call):
    x, normalizer, error, message = FEATURES[name]
    with pytest.raises(error, match=message):
        call(loss_of, normalizer, x)


LOSSES = {
    "a vector": (lambda row: row, ValueError, r"needs to be one scalar, got shape \(4,\); reduce it"),
    "a vector of one": (lambda row: row[:1], ValueError, r"needs to be one scalar, got shape \(1,\)"),
    "a tuple": (lambda row: (row[0], row[1]), ValueError, r"needs to be one scalar, got shape \[\(\), \(\)\]"),
    "nothing": (lambda _: None, ValueError, r"needs to be one scalar, got shape \[\]"),
    "an integer": (lambda row: jnp.sum(row > 0), TypeError, "real floating-point number, got dtype int64; convert"),
    "a complex number": (lambda row: jnp.sum(row) * 1j, TypeError, "real floating-point number, got dtype complex128"),
    "NaN": (lambda row: jnp.sum(row) * jnp.nan, ValueError, "finite at every row and at the expansion point, got nan"),
    "no derivative at 0": (jnp.linalg.norm, ValueError, "finite derivatives at every row.*another expansion_point"),
    "no second derivative at 0": (
        lambda row: jnp.sum(jnp.sqrt(row**2 + jnp.abs(row))),
        ValueError,
        "needs finite derivatives",
    ),
    "more arguments": (
        lambda row, label: row[label],
        TypeError,
        r"the 0 row arguments .* \(row, label\): missing .*; pass after x what it needs",
    ),
    "logits by name": (
        bnjax.logits_head(Partial(lambda row: {"logit": row[0]}), lambda logits: logits["logit"] ** 2),
        TypeError,
        r"need to be one array, such as of the shape \(k,\), got a dict; ravel and concatenate",
    ),
    "no function": (3.0, TypeError, r"needs to be a function loss\(y_row, ...\), got 3.0"),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("call", [bnjax.blocking, bnjax.spectrum], ids=["blocking", "spectrum"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_no_smooth_number_of_a_row_is_refused(name, call):
    loss, error, message = LOSSES[name]
    with pytest.raises(error, match=message):
        call(loss, BATCH_NORM, X)


@every_call
def test_a_loss_that_takes_fewer_arguments_than_came_is_refused(call):
    with pytest.raises(
        TypeError, match=r"the 2 row arguments that were passed, but of its arguments \(logits, label\)"
    ):
        call(LOSS, BATCH_NORM, X, LABELS, LABELS)


ROW_ARGUMENTS = {
    "another length": (LABELS[:5], r"row argument 0 needs one entry for each of the 6 rows, got shape \(5,\)"),
    "a number": (1, r"one entry for each of the 6 rows, got shape \(\)"),
    "a list": (
        [0, 1, 2, 0, 1, 2],
        r"got shape \(\); a list counts as a tree of arguments, so pass numbers as one array",
    ),
}


@every_call
@pytest.mark.parametrize("name", ROW_ARGUMENTS)
def test_row_arguments_without_one_entry_a_row_are_refused(name, call):
    row_labels, message = ROW_ARGUMENTS[name]
    with pytest.raises(ValueError, match=message):
        call(LOSS, BATCH_NORM, X, row_labels)


@pytest.mark.parametrize("call", [bnjax.blocking, bnjax.spectrum], ids=["blocking", "spectrum"])
@pytest.mark.parametrize("label", [3, -1])
def test_a_label_that_is_no_class_is_refused_by_its_row(label, call):
    with pytest.raises(ValueError, match=r"got nan and nan for row 4; check .* \(labels in range\?\)"):
        call(LOSS, BATCH_NORM, X, LABELS.at[4].set(label))


OPTIONS = {
    "params keys": ({"params": {"scale": jnp.ones(4)}}, r"entries \['bias', 'scale'\], got \['scale'\]; see its init"),
    "params as init gives them": ({"params": BATCH_NORM.init(X)}, r"needs a dict with entries .*, got tuple"),
    "params length": (
        {"params": {"scale": jnp.ones(3), "bias": jnp.ones(4)}},
        r"params\['scale'\].*\(4,\), got \(3,\)",
    ),
    "stats keys": ({"stats": {}}, r"stats of batch_norm needs a dict with entries \['mean', 'variance'\], got \[\]"),
    "stats length": (
        {"stats": {"mean": jnp.zeros(1), "variance": jnp.ones(4)}},
        r"stats\['mean'\] of batch_norm needs shape \(4,\), got \(1,\); see its init",
    ),
    "expansion point shape": ({"expansion_point": jnp.zeros(3)}, r"broadcasts to a row \(4,\), got \(3,\)"),
    "expansion point of a batch": ({"expansion_point": jnp.zeros(ROWS)}, r"broadcasts to a row \(4,\), got \(6, 4\)"),
    "expansion point NaN": ({"expansion_point": jnp.nan}, "expansion_point needs finite coordinates, got nan"),
}


@every_call
@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_do_not_fit_are_refused(name, call):
    options, message = OPTIONS[name]
    with pytest.raises(ValueError, match=message):
        call(LOSS, BATCH_NORM, X, LABELS, **options)


@every_call
def test_a_complex_expansion_point_is_refused(call):
    with pytest.raises(TypeError, match="expansion_point needs real coordinates, got dtype complex128"):
        call(LOSS, BATCH_NORM, X, LABELS, expansion_point=1j)


@every_call
def test_noise_without_a_key_is_refused(call):
    with pytest.raises(ValueError, match=r"noisy_batch_norm needs a key in batch mode, got None; pass key="):
        call(LOSS, noisy_batch_norm(), X, LABELS)


@every_call
def test_a_normalizer_that_was_not_made_is_refused(call):
    with pytest.raises(TypeError, match=r"one that was made, such as batch_norm\(\), got"):
        call(LOSS, batch_norm, X, LABELS)


@pytest.mark.parametrize("count", [0, -1, 2.5])
def test_counts_below_one_are_refused(count):
    with pytest.raises(ValueError, match=f"max_order needs to be an integer >= 1, got {count}"):
        bnjax.spectrum(LOSS, BATCH_NORM, X, LABELS, max_order=count)
    for call in (bnjax.blocking, diagonal_hessian):
        with pytest.raises(ValueError, match=f"chunk needs to be an integer >= 1, got {count}"):
            call(LOSS, BATCH_NORM, X, LABELS, chunk=count)


@pytest.mark.parametrize("convert", [np.asarray, lambda x: x.tolist()], ids=["numpy", "list"])
@every_call
def test_features_may_be_a_numpy_array_or_a_list(call, convert):
    found, expected = (jax.tree.leaves(call(LOSS, layer_norm(), x, LABELS)) for x in (convert(X), X))
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, jax.Array):
            np.testing.assert_array_equal(one, other)


def test_row_arguments_may_be_numpy_arrays_and_trees():
    def loss(row, tree):
        return LOSS(row, tree["label"]) * tree["weights"][0]

    tree = {"label": np.asarray(LABELS), "weights": [np.ones(6)]}
    found = bnjax.blocking(loss, BATCH_NORM, X, tree)
    assert_close(found.loss, bnjax.blocking(LOSS, BATCH_NORM, X, LABELS).loss)


def test_values_are_not_checked_under_an_outer_jit():
    found = jax.jit(lambda x: bnjax.blocking(LOSS, BATCH_NORM, x, LABELS))(replaced(jnp.nan))
    assert jnp.isnan(found.loss)
    assert found.terms["remainder"].to_row()["reason"] == "gradient not finite"
    assert all(row["reason"] for row in found.to_rows() if row["survival"] is None)


def test_shapes_are_checked_under_an_outer_jit():
    with pytest.raises(ValueError, match="at least 2 values for each feature"):
        jax.jit(lambda x: bnjax.blocking(loss_of, BATCH_NORM, x).loss)(X[:1])
    with pytest.raises(ValueError, match="has its rows on axis 0"):
        jax.jit(lambda x: bnjax.blocking(loss_of, batch_norm(feature_axis=4), x).loss)(features(MAPS))


@pytest.mark.parametrize(
    ("row_labels", "error", "message"),
    [
        (np.zeros(6), TypeError, "labels need to be integers from 0 to 2, got dtype float64"),
        (np.eye(6, 5, dtype=int), ValueError, "labels need one integer a row, .*argmax"),
        (None, TypeError, "row argument 0 needs to be an array of numbers, got NoneType"),
        (np.array(["a"] * 6), TypeError, "row argument 0 needs to be an array of numbers, got ndarray"),
    ],
    ids=["float", "one_hot", "none", "strings"],
)
def test_labels_that_are_no_classes_are_refused(row_labels, error, message):
    with pytest.raises(error, match=message):
        bnjax.blocking(LOSS, BATCH_NORM, X, row_labels)


@pytest.mark.parametrize("x", [None, [[1.0], [1.0, 2.0]], "features", np.ma.masked_array(np.ones((3, 2)))])
@every_call
def test_what_is_no_array_of_features_is_refused_by_name(call, x):
    with pytest.raises(TypeError, match="x needs to be an array of numbers, got"):
        call(loss_of, BATCH_NORM, x)


@pytest.mark.parametrize("variance", [np.full(4, -1.0), np.full(4, np.nan)])
def test_statistics_that_are_none_are_refused(variance):
    with pytest.raises(ValueError, match=r"stats\['variance'\] of frozen_batch_norm needs finite numbers"):
        bnjax.blocking(loss_of, frozen_batch_norm(), X, stats={"mean": np.zeros(4), "variance": variance})
    with pytest.raises(
        ValueError, match=r"stats\['spread'\] of .* needs finite numbers, a variance or spread none below"
    ):
        bnjax.blocking(loss_of, lp_norm(p=1), X, stats={"mean": np.zeros(4), "spread": variance})


@pytest.mark.parametrize("normalizer", [batch_norm(), batch_norm(epsilon=0.0), layer_norm()])
def test_features_whose_squares_overflow_are_refused(normalizer):
    with pytest.raises(
        ValueError, match=r"needs features up to .* so that the square of their sum is finite .*; rescale x"
    ):
        bnjax.blocking(loss_of, normalizer, X * 1e200)


def test_features_whose_squares_lose_digits_are_refused_at_epsilon_zero():
    with pytest.raises(ValueError, match="zero variance to rounding"):
        bnjax.blocking(loss_of, batch_norm(epsilon=0.0), X * 1e-160)


def test_a_wrong_option_names_the_normalizer_and_does_not_stay():
    with pytest.raises(TypeError, match=r"batch_norm\(\) takes the keywords epsilon=, .*'eps'"):
        batch_norm(eps=1e-3)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match=r"group_norm needs an integer number of groups, got 7\.0"):
        group_norm(groups=7.0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"an integer ghost_size, got 13\.0"):
        ghost_batch_norm(ghost_size=13.0)  # pyright: ignore[reportArgumentType]
    assert bnjax.blocking(loss_of, group_norm(groups=2), X).normalizer == "group_norm"
