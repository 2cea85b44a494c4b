"""What the smoothness experiment measures of a network is what single evaluations of its loss give."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnjax.data import random_batches
from bnjax.training import LossNotFiniteError, Recipe, initial_state
from experiments.common.observed import trained_and_observed
from experiments.common.trajectory import _paired_tests, failures
from experiments.common.trajectory_figures import _densities
from experiments.common.trajectory_point import STEP_SIZES, measured_point
from experiments.smoothness import Config, run

CONFIG = Config(model="mlp", batch_size=8, epochs=2, stretch=2, seeds=1, lanczos_steps=3, normalizers=("batch_norm",))


@pytest.fixture(scope="module")
def measured():
    """Return what is measured before the first step, with the loss and the parameters it is measured of."""
    data = CONFIG.load(train=True)
    recipe = Recipe(CONFIG.network("batch_norm", data.classes), optax.sgd(CONFIG.learning_rate))
    state = initial_state(recipe.model, recipe.optimizer, jax.random.key(0), jnp.asarray(data.images[:2]))
    found = measured_point(CONFIG, data, recipe, 0, 0, state)
    chosen = np.random.default_rng([0, 0, 1]).choice(len(data.labels), CONFIG.batch_size, replace=False)

    @jax.jit
    def value_and_gradient(params):
        def loss(params):
            variables = {"params": params, "batch_stats": state.stats}
            logits, _ = recipe.model.apply(
                variables, jnp.asarray(data.images[chosen]), mode="batch", mutable=["batch_stats"]
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, data.labels[chosen]).mean()

        return jax.value_and_grad(loss)(params)

    return found, value_and_gradient, state.params


def test_every_point_along_the_gradient_is_a_loss_and_a_gradient_of_its_own(measured):
    found, value_and_gradient, params = measured
    value, gradient = value_and_gradient(params)
    assert found["point"]["loss"] == pytest.approx(float(value), rel=1e-5)
    rows = found["landscape"]
    assert [row["step_size"] for row in rows] == pytest.approx(
        list(CONFIG.learning_rate * np.geomspace(*CONFIG.step_range, STEP_SIZES))
    )
    slope = float(optax.tree.norm(gradient))

    @jax.jit
    def loss_and_distance(size):
        there, other = value_and_gradient(optax.tree.add_scale(params, -size, gradient))
        return there, optax.tree.norm(optax.tree.sub(other, gradient))

    for row in rows:
        there, distance = map(float, loss_and_distance(row["step_size"]))
        assert row["loss"] == pytest.approx(there, rel=1e-4)
        assert row["distance"] == pytest.approx(distance, rel=1e-3)
        length = row["step_size"] * slope
        assert row["smoothness"] == pytest.approx(distance / length, rel=1e-3)


def test_layers_and_normalizers_are_numbered_from_the_input_on(measured):
    found, _, params = measured
    kernels = [params[row["name"]]["kernel"].shape[0] for row in found["layers"]]
    assert kernels[0] == 64
    assert [row["layer"] for row in found["layers"]] == list(range(1, len(kernels) + 1))
    assert found["layers"][0]["cosine"] == pytest.approx(1.0, abs=1e-6)
    assert all(0 <= row["removed"] <= 1 for row in found["normalizers"])
    assert len(found["normalizers"]) == len(kernels) - 1


def test_a_run_that_was_killed_while_it_was_measured_has_seen_what_an_unbroken_one_has(tmp_path):
    data = CONFIG.load(train=True).first(64)
    recipe = Recipe(CONFIG.network("batch_norm", data.classes), optax.sgd(0.1))

    def total(_, state):
        return float(sum(np.sum(np.abs(leaf)) for leaf in jax.tree.leaves(state.params)))

    def interrupted(epoch, state):
        if epoch == 2:
            raise KeyboardInterrupt
        return total(epoch, state)

    def observed(folder, observe):
        config = dataclasses.replace(CONFIG, output=folder, epochs=3)
        nothing = lambda *_: None  # noqa: E731
        return trained_and_observed(
            config, "a", recipe, data, data, order=random_batches, seed=0, advance=nothing, observe=observe
        ).by_epoch

    with pytest.raises(KeyboardInterrupt):
        observed(tmp_path / "broken", interrupted)
    assert observed(tmp_path / "broken", total) == observed(tmp_path / "whole", total)


def test_a_run_of_which_a_measurement_is_not_finite_counts_as_diverged(tmp_path):
    data = CONFIG.load(train=True).first(64)
    recipe = Recipe(CONFIG.network("batch_norm", data.classes), optax.sgd(0.1))
    options = {"order": random_batches, "seed": 0, "advance": lambda *_: None}
    config = dataclasses.replace(CONFIG, output=tmp_path)
    with pytest.raises(LossNotFiniteError, match=r"a: what is measured needs to be finite, .* after epoch 0"):
        trained_and_observed(config, "a", recipe, data, data, observe=lambda *_: float("inf"), **options)


def test_without_a_run_that_did_not_diverge_the_first_reason_is_given(tmp_path):
    config = dataclasses.replace(CONFIG, output=tmp_path, learning_rate=1e30, train_images=64, test_images=8)
    with pytest.raises(LossNotFiniteError, match="every run diverged, the first as batch_norm-0: "):
        run(config)


def test_a_shift_of_the_layer_without_any_before_it_and_a_share_above_one_are_failures():
    where = {"normalizer": "none", "step": 0, "name": "norm"}
    shift, share = {**where, "layer": 1, "cosine": 1.0, "norm": 2.0}, {**where, "layer": 1, "removed": 1.0}
    shares = [share, {**share, "removed": None}]
    assert failures({"covariate_shift": [shift, {**shift, "layer": 2, "cosine": 0.5}], "blocked_share": shares}) == []
    assert failures({"covariate_shift": [{**shift, "cosine": 0.9}], "blocked_share": [{**share, "removed": 1.1}]}) == [
        "none, step 0: the gradient of layer 1, with none before it, turns by 0.1",
        "none, step 0, norm: a share of 1.1 is removed",
    ]


def test_the_ritz_values_are_those_of_the_measured_ends_and_their_weights_add_up_to_one(measured):
    found, _, _ = measured
    values, weights = ([row[key] for row in found["ritz"]] for key in ("value", "weight"))
    assert sum(weights) == pytest.approx(1.0, abs=1e-5)
    (ends,) = found["spectrum"]
    assert (min(values), max(values)) == (ends["eigenvalue_min"], ends["eigenvalue_max"])


def test_a_density_has_each_seed_in_its_own_unit():
    ritz = [
        {"normalizer": "none", "step": 0, "seed": seed, "value": value, "weight": 0.5}
        for seed, largest in enumerate((2.0, 300.0))
        for value in (largest, -largest / 2)
    ]
    rows = _densities(ritz)
    density, places = (np.asarray([row[key] for row in rows]) for key in ("density", "eigenvalue"))
    assert np.trapezoid(density, places) == pytest.approx(1.0, abs=0.01)
    highest = places[density > 0.99 * density.max()]
    assert set(np.round(highest, 2)) <= {1.0, -0.5}


def test_seeds_are_compared_in_pairs():
    noise = [0.0, 10.0, -7.0]
    rows = [
        {"normalizer": name, "seed": seed, "loss": noise[seed] + shift + 0.01 * seed * shift}
        | dict.fromkeys(("loss_range", "distance_max", "smoothness", "curvature", "distance", "cosine"), 2 + shift)
        for name, shift in (("none", 0.0), ("batch_norm", -1.0))
        for seed in range(3)
    ]
    loss, other, *_ = _paired_tests(rows, rows, ("none", "batch_norm"), 3)
    assert loss["measure"] == "loss"
    assert loss["difference"] == pytest.approx(-1.01)
    assert loss["p"] < 1e-3
    assert loss["seeds"] == 3
    assert other["p"] is None, "without a spread there is no test"


def test_where_runs_diverged_nothing_is_compared():
    rows = [{"normalizer": name, "seed": seed} for name, seed in (("none", 0), ("none", 1), ("batch_norm", 0))]
    rows = [row | dict.fromkeys(("loss", "loss_range", "distance_max", "smoothness", "curvature"), 1.0) for row in rows]
    rows = [row | dict.fromkeys(("distance", "cosine"), 1.0) for row in rows]
    assert {
        (row["p"], row["reason"], row["found"]) for row in _paired_tests(rows, rows, ("none", "batch_norm"), 2)
    } == {(None, "1 of 4 runs diverged", "not tested")}


def test_a_batch_larger_than_the_data_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="--batch-size needs to be at most the 5 training images, got 8"):
        run(dataclasses.replace(CONFIG, train_images=5, output=tmp_path))
    assert not list(tmp_path.rglob("observed"))
