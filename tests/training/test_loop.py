"""A run goes on where it was killed, to the last bit, and stops where its loss does."""

import csv
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnjax.data import digits, random_batches
from bnjax.models import MLP
from bnjax.normalizers import batch_norm, ghost_batch_norm, group_norm, noisy_batch_norm
from bnjax.training import Checkpoints, LossNotFiniteError, Recipe, accuracy, evaluate, initial_state, train
from bnjax.training.step import chosen_step, scan_epoch, train_epoch
from tests.comparison import assert_close
from tests.training.plain_run import plain_run
from tests.training.small_run import small_run

EPOCHS = 12
KILLS = 3


@pytest.fixture(scope="module")
def uninterrupted():
    return small_run(None, EPOCHS)


def kill_at_a_random_moment(folder: Path, generator: random.Random) -> None:
    """Start the run and kill it some time after its next epoch is written, often in the middle of a checkpoint."""
    metrics = folder / "metrics.csv"
    before = metrics.read_text() if metrics.exists() else ""
    process = subprocess.Popen([sys.executable, "-m", "tests.training.small_run", str(folder), str(EPOCHS)])
    try:
        while process.poll() is None and (not metrics.exists() or metrics.read_text() in ("", before)):
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.3))
    finally:
        process.kill()
        process.wait()


def test_a_run_killed_at_random_moments_ends_with_the_bits_of_one_that_never_stopped(tmp_path, uninterrupted):
    generator = random.Random(0)
    for _ in range(KILLS):
        kill_at_a_random_moment(tmp_path, generator)
    resumed = small_run(tmp_path, EPOCHS)
    assert resumed.history == uninterrupted.history
    assert jax.tree.structure(resumed.state) == jax.tree.structure(uninterrupted.state)
    for ours, expected in zip(jax.tree.leaves(resumed.state), jax.tree.leaves(uninterrupted.state), strict=True):
        np.testing.assert_array_equal(ours, expected)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [{name: str(value) for name, value in row.items()} for row in uninterrupted.history] == rows


def test_best_and_last_epoch_are_kept_and_can_be_restored(tmp_path):
    trained = small_run(tmp_path, 4)
    best = max(trained.history, key=lambda row: (row["test_accuracy"], row["epoch"]))["epoch"]
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.epochs() == sorted({best, 4})
    for epoch, asked in ((4, {}), (best, {"epoch": checkpoints.epochs()[0]})):
        state, history = checkpoints.restore(trained.state, **asked)
        assert history == trained.history[:epoch]
        np.testing.assert_array_equal(state.step, trained.state.step // 4 * epoch)


def test_a_finished_run_is_not_trained_further(tmp_path):
    first = small_run(tmp_path, 2)
    again = small_run(tmp_path, 2)
    assert again.history == first.history


def test_a_loss_that_becomes_nan_stops_the_run_and_keeps_the_last_checkpoint(tmp_path):
    data = digits(train=False)

    def rate(step):
        return jnp.where(step < 12, 1e-2, jnp.inf)

    recipe = Recipe(MLP(norm=batch_norm()), optax.sgd(rate))
    with pytest.raises(LossNotFiniteError, match=r"in epoch 2, step .*epoch 1 in .* is kept; lower the learning rate"):
        train(recipe, data, data, order=random_batches, batch_size=50, epochs=5, directory=tmp_path)
    assert Checkpoints(tmp_path / "checkpoints").epochs() == [1]


@pytest.mark.parametrize("epochs", [1, 2])
def test_weights_that_become_nan_in_the_last_step_of_an_epoch_are_no_success(epochs, tmp_path):
    last_step = 2 * epochs - 1
    spoilt = optax.scale_by_schedule(lambda step: jnp.where(step == last_step, jnp.nan, 1.0))
    recipe = Recipe(MLP((8,)), optax.chain(optax.sgd(0.1), spoilt))
    with pytest.raises(LossNotFiniteError, match=f"not all finite after epoch {epochs}"):
        plain_run(recipe, epochs=epochs, directory=tmp_path)
    assert Checkpoints(tmp_path / "checkpoints").epochs() == list(range(1, epochs))


def test_logits_that_are_not_finite_are_never_right():
    logits = np.asarray([[np.nan, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert jax.jit(accuracy)(logits, np.zeros(3, int)).tolist() == [0, 1, 0]


@pytest.mark.parametrize("norm", [ghost_batch_norm(ghost_size=8), group_norm(groups=2), noisy_batch_norm()], ids=repr)
def test_normalizers_with_demands_on_the_batch_can_be_trained(norm):
    assert np.isfinite(plain_run(Recipe(MLP((8,), norm=norm), optax.sgd(0.1))).history[-1]["train_loss"])


def test_another_score_has_its_own_name_and_chooses_the_best_epoch(tmp_path):
    def ignorance(logits, labels):
        """Return the probability of all other classes: highest for the epoch that is trained least."""
        return -jnp.exp(-optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    recipe = Recipe(MLP((8,)), optax.adam(1e-2), score=ignorance)
    history = plain_run(recipe, epochs=3, directory=tmp_path).history
    assert [row["test_ignorance"] for row in history] == sorted(
        (row["test_ignorance"] for row in history), reverse=True
    )
    assert Checkpoints(tmp_path / "checkpoints", best_by="test_ignorance").epochs() == [1, 3]


def test_the_state_before_and_after_every_epoch_can_be_observed(tmp_path):
    recipe, data = Recipe(MLP((8,)), optax.sgd(0.1)), digits(train=False).first(64)
    images, labels = jax.device_put((data.images, data.labels))
    seen = {}

    def observe(epoch, state):
        seen[epoch] = float(evaluate(recipe, state, images, labels).loss)

    history = plain_run(recipe, epochs=2, directory=tmp_path, observe=observe).history
    assert [seen[1], seen[2]] == [row["test_loss"] for row in history]
    seen.clear()
    plain_run(recipe, epochs=3, directory=tmp_path, observe=observe)
    assert list(seen) == [3]


def test_a_run_starts_from_the_state_that_it_is_given_and_leaves_it_whole(tmp_path):
    data, recipe = digits(train=False), Recipe(MLP((8,)), optax.sgd(0.1))
    start = initial_state(recipe.model, recipe.optimizer, jax.random.key(0), jax.device_put(data.images[:2]))
    before = jax.tree.map(np.array, start.params)
    moved = jax.tree.map(lambda leaf: leaf + 1, before)
    tuned = start._replace(params=jax.device_put(jax.tree.map(np.array, moved)))
    usual, same, other = (plain_run(recipe, start=given) for given in (None, start, tuned))
    assert same.history == usual.history
    assert other.history != usual.history
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(tuned.params), moved)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(start.params), before)
    plain_run(recipe, start=tuned, directory=tmp_path)
    for another in (start, None):
        with pytest.raises(ValueError, match="holds another run, with start"):
            plain_run(recipe, start=another, directory=tmp_path)
    assert plain_run(recipe, start=tuned, directory=tmp_path).history == other.history


def test_epochs_of_one_run_compile_once_also_for_another_seed():
    data, recipe = digits(train=False), Recipe(MLP((8,)), optax.sgd(0.1))
    train(recipe, data, data, order=random_batches, batch_size=50, epochs=1)
    compiled: Any = chosen_step
    before = compiled._cache_size()
    train(recipe, data, data, order=random_batches, batch_size=50, epochs=3, seed=5)
    assert compiled._cache_size() == before


def test_an_epoch_as_one_program_is_that_of_its_steps():
    data, recipe = digits(train=False), Recipe(MLP((8,), norm=batch_norm()), optax.sgd(0.1, 0.9))
    images, labels = jax.device_put((data.images, data.labels))
    indices = jax.device_put(np.arange(120).reshape(4, 30))
    states = [initial_state(recipe.model, recipe.optimizer, jax.random.key(0), images[:2]) for _ in range(2)]
    by_step, at_once = (
        run(recipe, state, images, labels, indices)
        for run, state in zip((train_epoch, scan_epoch), states, strict=True)
    )
    for one, other in zip(jax.tree.leaves(by_step), jax.tree.leaves(at_once), strict=True):
        if jnp.issubdtype(one.dtype, jnp.floating):
            assert_close(one, other, order=1)
        else:
            np.testing.assert_array_equal(one, other)
