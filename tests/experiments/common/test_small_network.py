"""Small networks: trained together as each alone, and averaged so that the spread is theirs."""

import numpy as np
import pytest

from bnjax.data import digits
from bnjax.normalizers import batch_norm
from experiments.common.small_network import (
    NetworkOptions,
    TrainedNetwork,
    averaged,
    batches,
    train_small_networks,
)
from tests.experiments.common.tiny_network import tiny_network


def trained(*seeds: int) -> dict[int, TrainedNetwork]:
    images = digits(train=False)
    return train_small_networks(batch_norm(), images, images, features=3, hidden=4, steps=3, seeds=seeds)


def test_a_network_trained_beside_others_is_the_one_trained_alone():
    together, alone = trained(0, 1), trained(1)
    np.testing.assert_allclose(together[1].features, alone[1].features, atol=1e-8)
    assert np.abs(together[0].features - together[1].features).max() > 0.1


def test_fewer_images_than_a_batch_of_training_are_refused():
    with pytest.raises(ValueError, match="--train-images needs to be at least 64, got 63"):
        NetworkOptions(train_images=63)
    assert NetworkOptions(train_images=64, test_images=5).test_images == 5


@pytest.mark.parametrize(("kind", "count"), [("single_class", 4), ("mixed", 8)])
def test_a_batch_of_more_rows_than_there_are_test_images_for_it_asks_for_more_of_them(kind, count):
    network = tiny_network(labels=(0, 0, 0, 0, 1, 1, 1, 1))
    assert [len(batch) for batch in batches(network, count, kind, 2, seed=0)] == [count, count]
    message = rf"{kind} batches of {count + 1} rows needs as many test images .*, got {count} .*take more --test-images"
    with pytest.raises(ValueError, match=message):
        batches(network, count + 1, kind, 2, seed=0)


def test_the_spread_is_that_of_the_networks_whatever_their_batches():
    survivals = {0: (0.0, 2.0), 1: (2.0, 4.0)}
    rows = [
        {"seed": seed, "term": "a", "survival": survival, "reason": ""}
        for seed, of_batches in survivals.items()
        for survival in of_batches
    ]
    runs = averaged(rows, ("seed", "term"), ("survival",), counted="batches")
    assert [(run["survival"], run["batches"]) for run in runs] == [(1.0, 2), (3.0, 2)]
    (row,) = averaged(runs, ("term",), ("survival",), counted="seeds")
    assert (row["survival"], row["survival_std"], row["seeds"]) == (2.0, 1.0, 2)


@pytest.mark.parametrize(
    ("survivals", "expected"), [((None, None), (None, 0, "off")), ((None, 0.5), (0.5, 1, "")), ((0.5,), (0.5, 1, ""))]
)
def test_only_what_has_a_survival_counts_and_where_nothing_has_the_reason_is_told(survivals, expected):
    rows = [{"term": "a", "survival": survival, "reason": "" if survival else "off"} for survival in survivals]
    (row,) = averaged(rows, ("term",), ("survival",), counted="seeds")
    assert (row["survival"], row["seeds"], row["reason"]) == expected
