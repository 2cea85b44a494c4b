"""Runs of one kind are averaged together, over those that have the number."""

from experiments.averages import over_seeds


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
