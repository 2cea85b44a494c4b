"""Runs of one kind are averaged together, over those that have the number."""

import numpy as np
import pytest

from experiments.common.averages import means_of_seeds, over_seeds, paired_difference, paired_test


def test_runs_that_agree_in_the_keys_are_one_row_with_mean_and_deviation():
    runs = [{"norm": "a", "loss": 1.0}, {"norm": "b", "loss": 5.0}, {"norm": "a", "loss": 3.0}]
    assert over_seeds(runs, ("norm",), ("loss",)) == [
        {"norm": "a", "loss": 2.0, "loss_std": 1.0, "seeds": 2},
        {"norm": "b", "loss": 5.0, "loss_std": 0.0, "seeds": 1},
    ]


def test_a_number_that_some_runs_lack_is_averaged_over_the_others():
    (row,) = over_seeds([{"loss": None}, {"loss": 3.0}], (), ("loss",))
    assert row == {"loss": 3.0, "loss_std": 0.0, "seeds": 2}


def test_a_number_that_all_runs_lack_is_missing():
    (row,) = over_seeds([{"loss": None}, {"loss": None}], (), ("loss",))
    assert row == {"loss": None, "loss_std": None, "seeds": 2}


@pytest.mark.parametrize(
    ("claim", "down", "nowhere", "up"),
    [
        ("smaller: trains faster", "shown", "not shown", "contradicted"),
        ("larger: shifts more", "contradicted", "not shown", "shown"),
        ("not smaller (covariate shift)", "contradicted", "not contradicted", "shown"),
        ("not larger (covariate shift)", "shown", "not contradicted", "contradicted"),
        ("about the same", "contradicted", "not contradicted", "contradicted"),
    ],
)
def test_what_is_found_of_a_claim_follows_from_the_side_of_a_difference_and_its_spread(claim, down, nowhere, up):
    first = np.array([1.0, 2.0, 3.0])
    noise = np.array([0.01, -0.01, 0.005])
    found = [paired_difference(list(first), list(first + noise + by), claim)["found"] for by in (-1.0, 0.0, 1.0)]
    assert found == [down, nowhere, up]


def test_without_a_spread_nothing_is_shown_and_the_reason_is_given():
    row = paired_difference([1.0, 2.0], [0.0, 1.0], "smaller")
    assert row["p"] is None
    assert row["reason"] == "no spread over seeds"
    assert row["found"] == "not shown"


def test_a_spread_that_is_rounding_is_none():
    filters = np.array([3.0, 7.0, 20.0]) / 472
    row = paired_difference(list(filters), list(filters + 2 / 472 + np.array([0.0, 1e-18, -1e-18])), "smaller")
    assert (row["p"], row["reason"], row["found"]) == (None, "no spread over seeds", "not shown")
    assert row["difference"] == pytest.approx(2 / 472)


@pytest.mark.parametrize(
    ("first", "other", "reason", "found"),
    [
        ([np.inf, 1.0], [1.0, 2.0], "not finite", "not tested"),
        ([np.nan, 1.0], [1.0, 2.0], "not finite", "not tested"),
        ([2.0], [1.0], "one seed: no test", "not shown"),
    ],
)
def test_where_there_is_no_test_nothing_is_shown_and_the_reason_is_given(first, other, reason, found):
    row = paired_difference(first, other, "smaller")
    assert (row["p"], row["reason"], row["found"]) == (None, reason, found)


def test_what_goes_over_orders_of_magnitude_is_compared_by_its_logarithms():
    rows = [
        {"normalizer": name, "seed": seed, "range": factor * 10.0 ** (seed + step)}
        for name, factor in (("none", 1.0), ("batch_norm", 0.1))
        for seed in range(3)
        for step in (0, 4)
    ]
    rows[-1]["range"] *= 1.01
    row = paired_test(rows, "batch_norm", "none", "range", "smaller", seeds=3, geometric=True)
    assert row["mean_against"] == pytest.approx(1e3)
    assert row["mean"] == pytest.approx(1e2, rel=0.01)
    assert row["difference"] == pytest.approx(np.log(0.1), abs=0.01)
    assert row["found"] == "shown"


def test_a_number_that_has_no_logarithm_is_not_tested():
    rows = [{"normalizer": name, "seed": seed, "range": 1.0 + seed} for name in ("none", "norm") for seed in (0, 1)]
    rows[0]["range"] = 0.0
    row = paired_test(rows, "norm", "none", "range", "smaller", seeds=2, geometric=True)
    assert (row["p"], row["reason"], row["found"]) == (None, "not finite", "not tested")


def test_the_mean_is_taken_over_each_seeds_own_rows():
    rows = [{"seed": seed, "loss": seed + step} for seed in (3, 1) for step in (0.0, 2.0)]
    assert means_of_seeds(rows, "loss") == [4.0, 2.0]
