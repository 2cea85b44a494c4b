"""A run goes on where it was killed, to the last bit, and stops where its loss does."""

import csv
import os
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
from bnjax.normalizers import batch_norm
from bnjax.training import Checkpoints, LossNotFiniteError, Recipe, initial_state, train
from bnjax.training.step import chosen_step, scan_epoch, train_epoch
from tests.comparison import assert_close
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
    # What one process compiled the next need not compile again.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, "-m", "tests.training.small_run", str(folder), str(EPOCHS)]
    process = subprocess.Popen(command, env=os.environ | cache)
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
    state, history = checkpoints.restore(trained.state)
    assert history == trained.history
    np.testing.assert_array_equal(state.step, trained.state.step)


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


def test_epochs_of_one_run_compile_once_also_for_another_seed():
    data, recipe = digits(train=False), Recipe(MLP((8,)), optax.sgd(0.1))
    train(recipe, data, data, order=random_batches, batch_size=50, epochs=1)
    compiled: Any = chosen_step
    before = compiled._cache_size()
    train(recipe, data, data, order=random_batches, batch_size=50, epochs=3, seed=5)
    assert compiled._cache_size() == before


def test_an_epoch_as_one_program_is_that_of_its_steps():
    data, recipe = digits(train=False), Recipe(MLP((8,), norm=batch_norm()), optax.sgd(0.1, 0.9))
    images, labels = jnp.asarray(data.images), jnp.asarray(data.labels)
    indices = jnp.arange(120).reshape(4, 30)
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
