"""Every kind of run starts where it says."""

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.training import LossNotFiniteError
from experiments import filter_collapse
from experiments.common.collapsed_filters import filters
from experiments.common.networks import OPTIMIZERS, optimizer_of_any_rate


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_weight_decay_acts_on_scales_and_biases_too(kind):
    optimizer = optimizer_of_any_rate(kind, 0.5)

    @jax.jit
    def first_updates(params):
        state: Any = optimizer.init(params)
        state = state._replace(hyperparams={"learning_rate": jnp.float32(0.1)})
        return optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)[0]

    updates: Any = first_updates({"scale": np.ones(3), "bias": -np.ones(3), "kernel": np.ones((2, 3))})
    step = 0.1 if kind == "adam" else 0.05  # Adam's steps have the size of the rate, whatever the gradient's is.
    for key, sign in (("scale", 1), ("bias", -1), ("kernel", 1)):
        np.testing.assert_allclose(updates[key], -sign * step, rtol=1e-4)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    config = filter_collapse.Config(
        model="mlp",
        optimizers=("sgd",),
        learning_rates=(0.05, 1e30),
        epochs=2,
        stretch=5,
        seeds=2,
        train_images=400,
        test_images=100,
        output=tmp_path_factory.mktemp("collapse"),
    )
    return config, filter_collapse.run(config)


def test_every_kind_that_ends_has_its_row_and_what_diverges_is_named(record):
    config, results = record
    kinds = {(row["start"], row["normalizer"], row["learning_rate"]) for row in results["table"]}
    assert kinds == {(start, name, 0.05) for start in config.starts for name in config.normalizers}
    assert {row["learning_rate"] for row in results["diverged"]} == {1e30}
    rates = [row for row in results["tests"] if row["normalizer"] == "1e+30"]
    assert rates
    assert all(row["found"] == "not tested" for row in rates)


def test_what_was_learned_before_is_where_fine_tuning_starts(record):
    _, results = record
    accuracy = {
        start: np.mean([row["test_accuracy"] for row in results["runs"] if row["start"] == start])
        for start in ("scratch", "fine_tuned")
    }
    assert accuracy["scratch"] != accuracy["fine_tuned"]
    assert "classes 5, 6, 7, 8, 9 of " in results["data"]


def test_a_run_that_was_finished_is_not_made_again(record, monkeypatch):
    config, results = record
    made = []

    def noted(*arguments):
        made.append(arguments)
        return filters(*arguments)

    monkeypatch.setattr(filter_collapse, "filters", noted)
    assert filter_collapse.run(config)["table"] == results["table"]
    assert len(made) == len(results["diverged"])  # At the start of those that have no end.


def test_an_experiment_of_which_every_run_diverges_says_so(tmp_path):
    config = filter_collapse.Config(
        model="mlp",
        learning_rates=(1e30,),
        starts=("scratch",),
        optimizers=("sgd",),
        normalizers=("batch_norm",),
        epochs=1,
        stretch=1,
        output=tmp_path,
    )
    with pytest.raises(LossNotFiniteError, match="every run diverged"):
        filter_collapse.run(config)


def test_a_batch_of_more_rows_than_half_of_the_classes_have_is_refused_before_anything_is_trained(tmp_path):
    config = filter_collapse.Config(model="mlp", train_images=40, batch_size=32, output=tmp_path)
    with pytest.raises(ValueError, match="--batch-size needs to be at most the 17 training images, got 32"):
        filter_collapse.run(config)
    assert not list(tmp_path.rglob("observed"))


def test_every_comparison_has_the_side_that_the_claim_is_about():
    config = filter_collapse.Config(seeds=2)
    larger = {"post_shifted_batch_norm": 0, "fine_tuned": 1, "adam": 1, max(config.learning_rates): 1}
    runs = [
        dict(zip(filter_collapse.KIND, kind, strict=True))
        | {"seed": seed, "collapsed": (1 + seed) * sum(larger.get(at, 0.5) for at in kind), "test_accuracy": 0.5}
        for kind in product(config.optimizers, config.learning_rates, config.starts, config.normalizers)
        for seed in range(2)
    ]
    for row in filter_collapse._tests(config, runs):
        if row["measure"].startswith("collapsed"):
            assert row["normalizer"] in map(str, larger)
            assert (row["mean"] > row["mean_against"]) == (row["claim"] == "larger")
