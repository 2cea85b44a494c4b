"""What a run refuses: the message says what was required, what came and what to do."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnjax.data import Batches, digits, random_batches
from bnjax.models import MLP
from bnjax.training import LossNotFiniteError, Recipe, initial_state, train
from bnjax.training.checks import check_start
from tests.training.plain_run import plain_run


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


@pytest.mark.parametrize("name", ["batch_size", "epochs", "seed"])
@pytest.mark.parametrize("value", [20.0, 1.5, "20", True, None], ids=repr)
@pytest.mark.usefixtures("signatures_are_not_checked")
def test_numbers_that_are_no_integers_are_refused(name, value):
    with pytest.raises(TypeError, match=re.escape(f"{name} needs to be an integer, got {value!r}")):
        plain_run(**{name: value})


@pytest.mark.usefixtures("signatures_are_not_checked")
def test_integers_of_numpy_are_those_of_python(tmp_path):
    numbers = {"batch_size": 32, "epochs": 1, "seed": 2}
    first = plain_run(directory=tmp_path, **{name: np.int64(value) for name, value in numbers.items()})
    assert plain_run(directory=tmp_path, **numbers).history == first.history  # Resumed: it is the same run.


@pytest.mark.parametrize("below", ["", "run"])
def test_a_directory_that_is_or_lies_below_a_file_is_refused(below, tmp_path):
    (tmp_path / "notes.txt").write_text("kept")
    with pytest.raises(NotADirectoryError, match=r"needs to be a folder, .*notes\.txt is a file; give"):
        plain_run(directory=tmp_path / "notes.txt" / below)
    assert (tmp_path / "notes.txt").read_text() == "kept"


def test_a_loss_that_is_averaged_and_a_model_made_of_lists_are_refused():
    def averaged(logits, labels):
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    with pytest.raises(ValueError, match=r"32 rows needs the shape \(32,\), one number a row, got \(\)"):
        plain_run(Recipe(MLP((8,)), optax.sgd(0.1), averaged))
    with pytest.raises(TypeError, match="tuples in place of lists"):
        plain_run(Recipe(MLP([8]), optax.sgd(0.1)))


def test_a_start_that_is_no_state_or_of_another_optimizer_is_refused_before_anything_runs():
    data, recipe = digits(train=False), Recipe(MLP((8,)), optax.sgd(0.1))
    start = initial_state(recipe.model, recipe.optimizer, jax.random.key(0), jax.device_put(data.images[:2]))
    with pytest.raises(TypeError, match="start needs to be a TrainState, got dict; take the state of a finished run"):
        check_start(recipe, start.params)
    with pytest.raises(ValueError, match="start needs the state of the recipe's own optimizer"):
        plain_run(recipe._replace(optimizer=optax.adam(0.1)), start=start)


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
    start = initial_state(recipe.model, recipe.optimizer, jax.random.key(0), jax.device_put(data.images[:2]))
    wrong = start._replace(params={"elsewhere": start.params})
    with pytest.raises(Exception, match=r"params|parameter"):
        plain_run(recipe, start=wrong, directory=tmp_path)
    assert plain_run(recipe, start=start, directory=tmp_path).history
