"""The deep linear network learns the map that its data were made of, and its loss is the published one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bnjax.normalizers import identity
from bnjax.training import Recipe, initial_state, mean_loss
from experiments.deep_linear import FEATURES, INPUTS, Remainder, _inputs, closeness, squared_norm
from tests.comparison import assert_close


def test_the_loss_is_the_squared_distance_of_the_product_of_all_matrices_from_the_map():
    model, data = Remainder(3, identity(), seed=1), _inputs(0, "training")
    x, labels = jnp.asarray(data.images[:5], float), jnp.asarray(data.labels[:5])
    state = initial_state(model, optax.sgd(0.1), jax.random.key(0), x)
    loss, _ = mean_loss(state.params, Recipe(model, optax.sgd(0.1), loss=squared_norm), state.stats, x, labels, {})
    kernels = [state.params["DeepLinear_0"][f"Dense_{layer}"]["kernel"].astype(float) for layer in range(3)]
    target = jax.random.normal(jax.random.key(1), (FEATURES, FEATURES), x.dtype)
    difference = x @ (kernels[0] @ kernels[1] @ kernels[2]) - x @ target.T
    assert_close(loss, jnp.mean(jnp.sum(difference**2, axis=1)), order=1)


def test_the_nearer_the_higher_is_the_score():
    near, far = jnp.ones((1, FEATURES)), 2 * jnp.ones((1, FEATURES))
    assert closeness(near, jnp.zeros(1, int)) > closeness(far, jnp.zeros(1, int))


def test_training_and_test_inputs_are_others_and_those_of_a_seed_the_same():
    training, test, again = _inputs(0, "training"), _inputs(0, "test"), _inputs(0, "training")
    assert training.images.shape == (INPUTS, FEATURES)
    np.testing.assert_array_equal(training.images, again.images)
    assert not np.isin(training.images, test.images).any()
