"""The flow's options are checked before any work, batches are those of its classes, and the loss is as published."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.models.flow import RealNVP
from bnjax.normalizers import batch_norm, layer_norm
from experiments.common.flow_training import (
    LENGTH_DECAY,
    NORMALIZERS,
    WEIGHT_DECAY,
    Config,
    flow_of,
    recipe_of,
    repeated_batches,
)
from tests.comparison import assert_close


def test_two_equal_classes_are_refused():
    with pytest.raises(ValueError, match="need to be two classes, got 3 twice"):
        Config(positive=3, negative=3)


def test_a_class_with_fewer_images_than_a_batch_or_none_at_all_is_refused():
    with pytest.raises(ValueError, match=r"--positive 9 has \d+ training images, fewer than the 500 needed"):
        Config(batch_size=500).pair_of_classes(train=True)
    with pytest.raises(ValueError, match="--negative 11 has 0 test images"):
        Config(negative=11).pair_of_classes(train=False)


def test_both_classes_are_labelled_and_named():
    data = Config(positive=1, negative=0).pair_of_classes(train=False)
    assert set(data.labels) == {0, 1}
    assert data.name.startswith(f"the {len(data.labels)} images of classes 1 and 0 of digits")


@pytest.mark.parametrize("kind", ["random", "single_class"])
def test_batches_hold_one_class_in_turn_or_random_rows_without_repetition(kind):
    labels = np.repeat([0, 1], 40)
    batches = repeated_batches(Config(batches=kind, repeats=5), labels, 16, np.random.default_rng(0))
    assert batches.indices.shape == (10, 16)
    assert all(len(set(rows)) == 16 for rows in batches.indices)
    assert batches.dropped == 80 - len(np.unique(batches.indices))
    share = labels[batches.indices].mean(axis=1)
    assert np.array_equal(share, [0, 1] * 5) if kind == "single_class" else np.all((share > 0) & (share < 1))


@pytest.mark.parametrize("name", NORMALIZERS)
def test_a_flow_with_every_normalizer_has_a_likelihood(name):
    flow = flow_of(Config(width=4, blocks=1), name, 1)
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(16, 4, 4, 1)))
    keys = {"params": jax.random.key(0), "noise": jax.random.key(1)}
    shapes = jax.eval_shape(lambda: flow.init_with_output(keys, images)[0])
    assert shapes.shape == (16,)


def test_the_regularizer_is_weight_decay_and_once_more_decay_of_the_lengths():
    recipe = recipe_of(Config(), RealNVP())
    params = {"conv": {"length": jnp.ones(2), "direction": jnp.ones(2)}}

    def loss(params):
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
        return WEIGHT_DECAY / 2 * squares + 5e-5 * jnp.sum(params["conv"]["length"] ** 2)

    expected = jax.grad(loss)(params)
    assert_close(expected["conv"]["length"], jnp.full(2, WEIGHT_DECAY + LENGTH_DECAY))
    # Adamax forgets sizes, so that only the part before it can be seen: where the gradient cancels, nothing moves.
    cancelled = jax.tree.map(jnp.negative, expected)
    updates, _ = recipe.optimizer.update(cancelled, recipe.optimizer.init(params), params)
    assert all(np.max(np.abs(leaf)) < 1e-12 for leaf in jax.tree.leaves(updates))


def test_norms_without_statistics_share_one_mean_and_scale_inside_the_flow():
    flow = flow_of(Config(), "layer_norm", 1)
    assert flow.whole_batch
    assert flow.flow_norm == batch_norm()
    assert flow.norm != layer_norm()  # Over the sample: there may be one channel only.
