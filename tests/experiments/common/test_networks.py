"""Every network of the command line's table trains on the digits and has its features in front of its last layer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnjax.measurements import last_layer_inputs
from bnjax.training import Recipe, evaluate, initial_state, train_step
from experiments.classification import cropped_and_flipped
from experiments.common.command import main
from experiments.common.networks import MODELS, DataOptions


@pytest.mark.parametrize("model", MODELS)
def test_every_network_trains_on_the_digits(model):
    """Its shapes and dtypes alone: the larger networks take long to compile."""
    options = DataOptions(model=model, train_images=8)
    data = options.load(train=True)
    images, labels = (jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (data.images, data.labels))
    recipe = Recipe(options.network("batch_norm", data.classes), optax.sgd(0.1, 0.9))
    before = jax.eval_shape(partial(initial_state, recipe.model, recipe.optimizer), jax.random.key(0), images)
    after, metrics = jax.eval_shape(partial(train_step, recipe), before, images, labels)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, before)
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, before)
    assert metrics.loss.shape == ()

    tested = jax.eval_shape(partial(evaluate, recipe), after, images, labels)
    assert tested.score.shape == ()
    assert jax.eval_shape(partial(last_layer_inputs, recipe.model), after.variables, images).shape[0] == 8


def test_fewer_images_are_called_a_subset():
    data = DataOptions(train_images=8, test_images=5).load(train=False)
    assert len(data.images) == len(data.labels) == 5
    assert data.name.startswith("subset: the first 5 of digits 8×8, test part")
    assert "subset" not in DataOptions(test_images=1000).load(train=False).name


def test_augmentation_moves_and_mirrors_every_image_by_itself():
    images = jnp.tile(jnp.arange(64.0).reshape(1, 8, 8, 1), (6, 1, 1, 1))
    augmented = jax.jit(cropped_and_flipped)(jax.random.key(0), images)
    assert augmented.shape == images.shape
    assert len({image.tobytes() for image in np.asarray(augmented)}) == 6


def test_the_names_of_the_tables_are_the_options(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(lambda _: {}, DataOptions, name="experiments.demo", args=["--model", "absent"])
    complaint = capsys.readouterr().err
    assert all(model in complaint for model in MODELS)
