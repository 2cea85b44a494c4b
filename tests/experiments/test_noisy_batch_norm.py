"""The noise behind batch normalization is seen as a shift of its outputs, in units of their deviation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnjax.training import Recipe, initial_state
from experiments.noisy_batch_norm import (
    COMPARED,
    Config,
    _before_and_after_a_step,
    _changes,
    _outputs,
    _tests,
    failures,
    run,
)

CONFIG = Config(model="mlp", batch_size=16)


def test_a_shift_counts_in_deviations_and_dead_features_not_at_all():
    now = np.asarray([[1.0, 10.0, 5.0], [3.0, 30.0, 5.0]])
    then = np.asarray([[2.0, 20.0, 9.0], [6.0, 40.0, 9.0]])
    # Deviations 1, 10 and 0; means move by 2 and 10, deviations to 2 and 10.
    assert _changes(now, then) == {"mean_change": pytest.approx(1.5), "deviation_change": pytest.approx(0.5)}


def test_noise_moves_the_outputs_of_a_network_that_hardly_learns():
    data = CONFIG.load(train=True)
    moved = {}
    for name in ("batch_norm", "noisy_batch_norm"):
        recipe = Recipe(CONFIG.network(name, data.classes), optax.sgd(1e-6))
        state = initial_state(recipe.model, recipe.optimizer, jax.random.key(0), jnp.asarray(data.images[:2]))
        first, *_, last = _outputs(CONFIG, recipe, data, 0, state)
        assert (first["layer"], last["layer"]) == (1, 2)
        moved[name] = first["changes"]["mean_change"]
    assert moved["batch_norm"] < 1e-4
    # The noise of two steps has means that are uniform in [-1/2, 1/2]: they differ by 1/3 on the average.
    assert 0.2 < moved["noisy_batch_norm"] < 0.5


def test_every_claim_is_compared_with_its_own_pair():
    names = ("none", "batch_norm", "noisy_batch_norm")
    rows = [
        {"normalizer": name, "seed": seed, "train_loss": number * (1 + 0.1 * seed)}
        | dict.fromkeys(("mean_change", "deviation_change"), number * (2 + seed))
        for number, name in enumerate(names)
        for seed in range(3)
    ]
    for row in _tests(rows, rows, 3):
        assert row["difference"] > 0
        assert names.index(row["normalizer"]) > names.index(row["against"])


def test_all_seeds_of_a_normalizer_run_one_program(tmp_path):
    compiled: Any = _before_and_after_a_step
    before = compiled._cache_size()
    small = dataclasses.replace(CONFIG, epochs=1, stretch=1, seeds=2, train_images=64, test_images=8, output=tmp_path)
    run(small)
    assert compiled._cache_size() - before == len(COMPARED)


def test_quantiles_that_fall_are_a_failure():
    place = {"normalizer": "none", "seed": 0, "step": 0, "layer": 1}
    rows = [{**place, "quantile": quantile, "value": value} for quantile, value in ((0.05, 1.0), (0.5, 2.0))]
    assert failures({"quantiles": rows * 2}) == []
    assert failures({"quantiles": [rows[0], {**rows[1], "value": 0.5}]}) == [
        "none, step 0, layer 1: 1 is the quantile 0.05 and 0.5 the quantile 0.5"
    ]
