"""A feature is alive where it varies, beside those that vary most over the same batch."""

import jax.numpy as jnp
import numpy as np

from experiments.common.live_features import live_features


def test_features_that_do_not_vary_are_dead():
    x = np.array([[1.0, 2.0, 1e-9], [3.0, 2.0, 0.0]])
    assert live_features(np.std(x, axis=0)).tolist() == [True, False, False]
    assert not live_features(jnp.std(jnp.ones((4, 3)), axis=0)).any()


def test_the_features_of_every_batch_are_compared_among_themselves():
    assert live_features(np.array([[1.0, 1e-3], [1e-9, 1e-12]])).tolist() == [[True, True], [True, True]]
    assert live_features(np.array([[1.0, 1e-7], [1e-9, 1e-12]])).tolist() == [[True, False], [True, True]]
