"""Runs with and without batch normalization are compared seed by seed, go on where they stopped, and may diverge."""

import dataclasses

import pytest

from experiments.performance import Config, failures, run


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    small = Config(model="mlp", epochs=1, seeds=2, learning_rates=(0.1,), train_images=128, test_images=32)
    return dataclasses.replace(small, output=tmp_path_factory.mktemp("performance"))


def without_times(results):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in results["runs"]]


def test_a_run_that_was_finished_is_not_made_again(config, monkeypatch):
    first = run(config)
    monkeypatch.setattr("bnjax.training.loop.train_epoch", None)
    again = run(config)
    assert without_times(again) == without_times(first)
    assert again["tests"] == first["tests"]


def test_every_normalizer_is_compared_with_the_first_at_every_rate(config):
    tests = run(config)["tests"]
    assert [(row["normalizer"], row["against"], row["measure"]) for row in tests] == [
        ("batch_norm", "none", "train_loss, rate 0.1"),
        ("batch_norm", "none", "test_accuracy, rate 0.1"),
    ]


def test_where_runs_diverged_nothing_is_compared_and_the_reason_is_given(config):
    results = run(dataclasses.replace(config, learning_rates=(1e30,)))
    assert [(row["p"], row["found"]) for row in results["tests"]] == [(None, "not tested")] * 2
    assert all(row["reason"].endswith("of 4 runs diverged") for row in results["tests"])
    assert failures(results) or results["runs"]
