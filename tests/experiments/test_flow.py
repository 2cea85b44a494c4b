"""The flow's Jacobian is that of the whole batch, and its mixtures are of both classes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnjax.data import LabelledImages
from bnjax.training import initial_state
from experiments.common.flow_training import Config, flow_of
from experiments.flow import ALPHAS, _joint_jacobian, _mixtures


@pytest.mark.parametrize("name", ["ghost_batch_norm", "noisy_batch_norm"])
def test_a_flow_with_any_normalizer_has_a_joint_jacobian(name):
    """Its smallest form: the batch is split among ghosts, and noise needs a key."""
    config = Config(width=1, blocks=1)
    flow, data = flow_of(config, name, 1), config.pair_of_classes(train=False)
    state = initial_state(flow, optax.sgd(0.1), jax.random.key(0), jnp.asarray(data.images[:4]))
    found = _joint_jacobian(flow, state, data)
    assert found["dimensions"] == 4 * 64
    assert np.isfinite(found["counted"])


def test_a_mixture_is_the_share_alpha_of_a_positive_and_the_rest_of_a_negative_image():
    images = np.stack([np.full((2, 2, 1), value, np.float32) for value in (0, 0, 1, 1)])
    data = LabelledImages(images, np.array([0, 0, 1, 1], np.int32), "made", 2)
    mixtures = _mixtures(Config(pairs=3), data)
    np.testing.assert_allclose(mixtures.mean((1, 2, 3, 4)), ALPHAS, atol=1e-6)
