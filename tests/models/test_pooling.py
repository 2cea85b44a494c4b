"""The maxima over 2×2 positions are those of flax's pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnjax.derivatives import is_piecewise_linear
from bnjax.models import AlexNet, LeNet
from bnjax.models.pooling import max_pool
from tests.comparison import assert_close


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 5, 7, 2), (3, 2, 3, 1)])
def test_values_and_gradients_are_those_of_flax(shape):
    x = np.random.default_rng(0).normal(size=shape)

    def value_and_gradient(pool):
        return jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(pool(x)))))(x)

    found, expected = value_and_gradient(max_pool), value_and_gradient(lambda x: nn.max_pool(x, (2, 2), (2, 2)))
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)


def test_positions_that_tie_share_the_gradient():
    gradient = jax.jit(jax.grad(lambda x: max_pool(x).sum()))(np.ones((1, 2, 2, 1)))
    assert np.array_equal(gradient, np.full((1, 2, 2, 1), 0.25))


def test_pooling_is_piecewise_linear():
    assert is_piecewise_linear(lambda row: max_pool(row[None]), jnp.ones((4, 4, 2)))


@pytest.mark.parametrize(
    ("model", "least", "usual"), [(LeNet(), 12, 28), (AlexNet(), 15, 32)], ids=["lenet", "alexnet"]
)
def test_images_of_which_no_position_is_left_are_refused_and_those_a_row_larger_are_taken(model, least, usual):
    def logits(height, width):
        images = jnp.zeros((2, height, width, 1))
        return jax.eval_shape(lambda key: model.init_with_output(key, images, mode="running")[0], jax.random.key(0))

    assert logits(least, least).shape == (2, 10)
    remedy = rf"at least {least}×{least}, got \(2, .*, 1\); resize them \(`\.resized\({usual}\)`\)"
    for height, width in ((least - 1, usual), (usual, least - 1), (2, 2)):
        with pytest.raises(ValueError, match=f"{type(model).__name__} needs images of {remedy}"):
            logits(height, width)
