"""A run goes on where it was killed, to the last bit, and stops where its loss does."""

import csv
import random
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnjax.data import Batches, digits, random_batches, single_class_batches
from bnjax.models import MLP
from bnjax.normalizers import batch_norm, ghost_batch_norm, group_norm, layer_norm, noisy_batch_norm
from bnjax.training import (
    Checkpoints,
    LossNotFiniteError,
    Recipe,
    accuracy,
    evaluate,
    initial_state,
    require_resumable,
    train,
)
from bnjax.training.checks import check_start, identity_of, record_run
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


def plain_run(recipe=None, train_data=None, test_data=None, **options):
    """Train a small network on 64 digits for one epoch, all of it as given or else sound."""
    data = digits(train=False).first(64)
    options = {"order": random_batches, "batch_size": 32, "epochs": 1} | options
    recipe = recipe or Recipe(MLP((8,)), optax.sgd(0.1))
    return train(recipe, train_data or data, test_data or data, **options)


@pytest.mark.parametrize("epochs", [1, 2])
def test_weights_that_become_nan_in_the_last_step_of_an_epoch_are_no_success(epochs, tmp_path):
    last_step = 2 * epochs - 1
    spoilt = optax.scale_by_schedule(lambda step: jnp.where(step == last_step, jnp.nan, 1.0))
    recipe = Recipe(MLP((8,)), optax.chain(optax.sgd(0.1), spoilt))
    with pytest.raises(LossNotFiniteError, match=f"not all finite after epoch {epochs}"):
        plain_run(recipe, epochs=epochs, directory=tmp_path)
    assert Checkpoints(tmp_path / "checkpoints").epochs() == list(range(1, epochs))


def test_logits_that_are_not_finite_are_never_right():
    logits = jnp.array([[jnp.nan, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert accuracy(logits, jnp.array([0, 0, 0])).tolist() == [0, 1, 0]


@pytest.mark.parametrize("norm", [ghost_batch_norm(ghost_size=8), group_norm(groups=2), noisy_batch_norm()], ids=repr)
def test_normalizers_with_demands_on_the_batch_can_be_trained(norm):
    assert np.isfinite(plain_run(Recipe(MLP((8,), norm=norm), optax.sgd(0.1))).history[-1]["train_loss"])


def test_data_that_does_not_fit_together_is_refused():
    data = digits(train=False).first(64)
    with pytest.raises(ValueError, match="training data needs as many images as labels, got 40 and 64"):
        plain_run(train_data=data._replace(images=data.images[:40]))
    with pytest.raises(ValueError, match="test data needs as many images as labels, got 0 and 0"):
        plain_run(test_data=data._replace(images=data.images[:0], labels=data.labels[:0]))
    with pytest.raises(ValueError, match="labels need to be from 0 to 9, got some from -1"):
        plain_run(train_data=data._replace(labels=data.labels - 1))
    with pytest.raises(ValueError, match="test labels need to be from 0 to 4"):
        plain_run(train_data=data._replace(labels=data.labels % 5, classes=5))
    with pytest.raises(ValueError, match="test images need to be finite"):
        plain_run(test_data=data._replace(images=data.images * np.nan))
    with pytest.raises(ValueError, match="got dtype uint8; divide by 255"):
        plain_run(train_data=data._replace(images=data.images.astype(np.uint8)))


@pytest.mark.parametrize("option", [{"epochs": 0}, {"batch_size": 0}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} needs to be at least"):
        plain_run(**option)


def test_a_loss_that_is_averaged_and_a_model_made_of_lists_are_refused():
    def averaged(logits, labels):
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    with pytest.raises(ValueError, match=r"32 rows needs the shape \(32,\), one number a row, got \(\)"):
        plain_run(Recipe(MLP((8,)), optax.sgd(0.1), averaged))
    with pytest.raises(TypeError, match="tuples in place of lists"):
        plain_run(Recipe(MLP([8]), optax.sgd(0.1)))


def test_a_folder_of_another_run_or_of_more_epochs_is_refused(tmp_path):
    plain_run(directory=str(tmp_path), epochs=2)
    with pytest.raises(ValueError, match=r"holds another run, with seed 0 instead of 7; choose another folder"):
        plain_run(directory=tmp_path, epochs=3, seed=7)
    with pytest.raises(ValueError, match="at least the 2 that"):
        plain_run(directory=tmp_path, epochs=1)


def test_another_score_has_its_own_name_and_chooses_the_best_epoch(tmp_path):
    def ignorance(logits, labels):
        """The probability of all other classes: highest for the epoch that is trained least."""
        return -jnp.exp(-optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    recipe = Recipe(MLP((8,)), optax.adam(1e-2), score=ignorance)
    history = plain_run(recipe, epochs=3, directory=tmp_path).history
    assert [row["test_ignorance"] for row in history] == sorted(
        (row["test_ignorance"] for row in history), reverse=True
    )
    assert Checkpoints(tmp_path / "checkpoints", best_by="test_ignorance").epochs() == [1, 3]


def test_the_state_before_and_after_every_epoch_can_be_observed(tmp_path):
    recipe, data = Recipe(MLP((8,)), optax.sgd(0.1)), digits(train=False).first(64)
    images, labels = jnp.asarray(data.images), jnp.asarray(data.labels)
    seen = {}

    def observe(epoch, state):
        seen[epoch] = float(evaluate(recipe, state, images, labels).loss)

    history = plain_run(recipe, epochs=2, directory=tmp_path, observe=observe).history
    assert [seen[1], seen[2]] == [row["test_loss"] for row in history]
    seen.clear()
    plain_run(recipe, epochs=3, directory=tmp_path, observe=observe)
    assert list(seen) == [3]


def test_a_folder_can_be_asked_whether_it_holds_another_run_without_being_claimed(tmp_path):
    data, recipe = digits(train=False), Recipe(MLP((8,)), optax.sgd(0.1))
    options: dict[str, Any] = {"batch_size": 50, "epochs": 1, "seed": 0, "order": random_batches}
    require_resumable(tmp_path, recipe, data, data, **options)
    assert not list(tmp_path.iterdir())
    train(recipe, data, data, directory=tmp_path, **options)
    require_resumable(tmp_path, recipe, data, data, **options)
    other = Recipe(MLP((8,), norm=layer_norm()), optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"normalizer identity.* instead of .*normalizer layer_norm"):
        require_resumable(tmp_path, other, data, data, **options)


def stretched(loss, factor, logits, labels):
    return factor * loss(logits, labels)


OTHERS = {
    "epsilon": (Recipe(MLP((8,), norm=layer_norm(epsilon=1e-3)), optax.sgd(0.1)), {}, "epsilon=0.001"),
    "rate": (Recipe(MLP((8,), norm=layer_norm()), optax.sgd(0.2)), {}, "optimizer"),
    "momentum": (Recipe(MLP((8,), norm=layer_norm()), optax.sgd(0.1, 0.9)), {}, "optimizer"),
    "optimizer": (Recipe(MLP((8,), norm=layer_norm()), optax.adam(0.1)), {}, "optimizer"),
    "loss": (
        Recipe(MLP((8,), norm=layer_norm()), optax.sgd(0.1), partial(stretched, optax.squared_error, 2.0)),
        {},
        "stretched.*2.0",
    ),
    "order": (Recipe(MLP((8,), norm=layer_norm()), optax.sgd(0.1)), {"order": single_class_batches}, "order"),
}


@pytest.mark.parametrize(("other", "change", "complaint"), OTHERS.values(), ids=list(OTHERS))
def test_a_run_that_differs_in_one_choice_does_not_go_on_in_the_folder_of_another(tmp_path, other, change, complaint):
    data, recipe = digits(train=False), Recipe(MLP((8,), norm=layer_norm()), optax.sgd(0.1))
    options: dict[str, Any] = {"batch_size": 20, "seed": 0, "order": random_batches, "epochs": 1}
    record_run(
        tmp_path, identity_of(recipe, data, data, **{key: options[key] for key in ("batch_size", "seed", "order")})
    )
    require_resumable(tmp_path, recipe, data, data, **options)
    with pytest.raises(ValueError, match=f"holds another run, with .*{complaint}"):
        require_resumable(tmp_path, other, data, data, **(options | change))


def test_a_run_starts_from_the_state_that_it_is_given_and_leaves_it_whole(tmp_path):
    data, recipe = digits(train=False), Recipe(MLP((8,)), optax.sgd(0.1))
    start = initial_state(recipe.model, recipe.optimizer, jax.random.key(0), jnp.asarray(data.images[:2]))
    tuned = start._replace(params=jax.tree.map(lambda leaf: leaf + 1, start.params))
    usual, same, other = (plain_run(recipe, start=given) for given in (None, start, tuned))
    assert same.history == usual.history
    assert other.history != usual.history
    moved = jax.tree.map(lambda leaf, before: leaf == before + 1, tuned.params, start.params)
    assert jax.tree.all(jax.tree.map(jnp.all, moved))
    plain_run(recipe, start=tuned, directory=tmp_path)
    for another in (start, None):
        with pytest.raises(ValueError, match="holds another run, with start"):
            plain_run(recipe, start=another, directory=tmp_path)
    assert plain_run(recipe, start=tuned, directory=tmp_path).history == other.history


def test_a_start_that_is_no_state_or_of_another_optimizer_is_refused_before_anything_runs():
    data, recipe = digits(train=False), Recipe(MLP((8,)), optax.sgd(0.1))
    start = initial_state(recipe.model, recipe.optimizer, jax.random.key(0), jnp.asarray(data.images[:2]))
    with pytest.raises(TypeError, match="start needs to be a TrainState, got dict; take the state of a finished run"):
        check_start(recipe, start.params)
    with pytest.raises(ValueError, match="start needs the state of the recipe's own optimizer"):
        plain_run(recipe._replace(optimizer=optax.adam(0.1)), start=start)


def test_what_tells_runs_apart_is_the_same_in_another_process():
    bound = partial(stretched, optax.squared_error, 2.0)
    data, recipe = digits(train=False), Recipe(MLP((8,)), optax.sgd(0.1), bound)
    identity = identity_of(recipe, data, data, order=random_batches, batch_size=20, seed=0)
    assert identity["loss, augmentation, score"] == ["stretched(squared_error, 2.0)", "None", "accuracy"]
    assert " at 0x" not in str(identity)


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


@pytest.mark.parametrize("rows", [[[0, 999]], [[-1, 0]], np.zeros((0, 2), int)], ids=["above", "below", "none"])
def test_an_order_of_rows_that_there_are_not_is_refused(rows):
    data = digits(train=False).first(40)

    def order(*_):
        return Batches(np.asarray(rows), 0)

    with pytest.raises(ValueError, match="an epoch's order needs"):
        train(Recipe(MLP((8,)), optax.sgd(0.1)), data, data, order=order, batch_size=2, epochs=1)


def test_a_score_that_is_averaged_and_images_of_two_shapes_are_refused():
    data = digits(train=False).first(40)
    averaged = Recipe(MLP((8,)), optax.sgd(0.1), score=lambda outputs, _: jnp.sum(outputs))
    options: dict[str, Any] = {"order": random_batches, "batch_size": 20, "epochs": 1}
    with pytest.raises(ValueError, match=r"the score of 20 rows needs the shape \(20,\)"):
        train(averaged, data, data, **options)
    with pytest.raises(ValueError, match=r"of one shape, got \(8, 8, 1\) and \(4, 4, 1\)"):
        train(Recipe(MLP((8,)), optax.sgd(0.1)), data, data.resized(4), **options)


def test_a_damaged_record_of_a_run_is_named(tmp_path):
    (tmp_path / "run.json").write_text("")
    data = digits(train=False).first(40)
    options: dict[str, Any] = {"order": random_batches, "batch_size": 20, "epochs": 1}
    with pytest.raises(ValueError, match=r"run\.json is damaged .*; remove .* to train anew"):
        train(Recipe(MLP((8,)), optax.sgd(0.1)), data, data, directory=tmp_path, **options)


def never_a_number(outputs, labels):
    return jnp.where(labels >= 0, jnp.nan, outputs[:, 0])


def test_a_score_that_is_no_number_is_no_success_and_one_without_a_name_is_refused():
    recipe = Recipe(MLP((8,)), optax.sgd(0.1))
    with pytest.raises(LossNotFiniteError, match="test loss and score that are not all finite"):
        plain_run(recipe._replace(score=never_a_number))
    with pytest.raises(ValueError, match="score needs to be a function with a name of its own"):
        plain_run(recipe._replace(score=partial(never_a_number)))


def test_a_call_that_never_took_a_step_leaves_its_folder_free(tmp_path):
    data, recipe = digits(train=False), Recipe(MLP((8,)), optax.sgd(0.1))
    start = initial_state(recipe.model, recipe.optimizer, jax.random.key(0), jnp.asarray(data.images[:2]))
    wrong = start._replace(params={"elsewhere": start.params})
    with pytest.raises(Exception, match=r"params|parameter"):
        plain_run(recipe, start=wrong, directory=tmp_path)
    assert plain_run(recipe, start=start, directory=tmp_path).history


def test_data_of_the_same_name_and_shape_but_other_contents_is_other_data(tmp_path):
    data = digits(train=False).first(64)
    plain_run(train_data=data, directory=tmp_path)
    with pytest.raises(ValueError, match="holds another run, with training images"):
        plain_run(train_data=data._replace(images=data.images[::-1].copy()), directory=tmp_path)
