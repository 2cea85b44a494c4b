from functools import partial

import numpy as np
import pytest

from bnjax.data import random_batches, single_class_batches

LABELS = np.array([0] * 7 + [1] * 5 + [2] * 12)
orders = pytest.mark.parametrize("order", [random_batches, single_class_batches])


def generator(seed=0):
    return np.random.default_rng(seed)


@orders
@pytest.mark.parametrize("remainder", ["drop", "wrap"])
def test_the_order_follows_from_the_seed(order, remainder):
    first, again, other = (order(LABELS, 4, generator(seed), remainder=remainder) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.indices, again.indices)
    assert not np.array_equal(first.indices, other.indices)


@orders
def test_no_row_comes_twice_and_dropped_ones_are_counted(order):
    batches = order(LABELS, 4, generator())
    assert len(np.unique(batches.indices)) == batches.indices.size
    assert batches.dropped == len(LABELS) - batches.indices.size


@orders
def test_wrapping_drops_nothing_and_repeats_less_than_a_batch_a_class(order):
    batches = order(LABELS, 5, generator(), remainder="wrap")
    assert batches.dropped == 0
    assert set(batches.indices.ravel()) == set(range(len(LABELS)))
    assert batches.indices.size - len(LABELS) < 5 * 3


def test_a_single_class_batch_holds_one_class_and_classes_take_turns():
    batches = single_class_batches(LABELS, 2, generator())
    classes = LABELS[batches.indices]
    assert (classes == classes[:, :1]).all()
    assert classes[:, 0].tolist() == [0, 1, 2, 0, 1, 2, 0, 2, 2, 2, 2]
    assert batches.dropped == 2


def test_random_batches_mix_classes():
    assert (np.ptp(LABELS[random_batches(LABELS, 12, generator()).indices], axis=1) > 0).all()


@orders
def test_a_batch_larger_than_what_there_is_is_refused_unless_it_wraps(order):
    remedy = r"take a smaller batch size or, in Python, .* functools\.partial\(order, remainder='wrap'\)"
    with pytest.raises(ValueError, match=f"a batch needs 30 rows, but .* has .*; {remedy}"):
        order(LABELS, 30, generator())
    assert partial(order, remainder="wrap")(LABELS, 30, generator()).indices.shape[1] == 30


def test_options_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="'drop' or 'wrap', got 'keep'"):
        random_batches(LABELS, 4, generator(), remainder="keep")
    with pytest.raises(ValueError, match="batch_size needs to be >= 1, got 0"):
        random_batches(LABELS, 0, generator())
