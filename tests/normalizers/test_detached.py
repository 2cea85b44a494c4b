import jax
import jax.numpy as jnp
import numpy as np

from bnjax.normalizers import batch_norm, detached_batch_norm
from tests.comparison import assert_close
from tests.normalizers.cases import compiled, drawn_like, features


def test_values_and_statistics_are_those_of_batch_norm():
    x = features()
    params, stats = (drawn_like(state) for state in batch_norm().init(x))
    y, updated = compiled(detached_batch_norm(), params, stats, x)
    expected, expected_updated = compiled(batch_norm(), params, stats, x)
    np.testing.assert_array_equal(y, expected)
    assert_close(updated["mean"], expected_updated["mean"])
    assert_close(updated["variance"], expected_updated["variance"])


def test_the_derivative_is_scale_over_deviation_alone():
    x, normalizer = features(), detached_batch_norm(epsilon=0.25)
    params, stats = (drawn_like(state) for state in normalizer.init(x))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(normalizer.apply(params, stats, x)[0])))(x)
    expected = np.asarray(params["scale"]) / np.sqrt(np.var(np.asarray(x), (0, 1, 2)) + 0.25)
    assert_close(gradient, np.broadcast_to(expected, x.shape), order=1)


def test_the_running_statistics_have_no_derivative():
    x, normalizer = features(), detached_batch_norm()
    params, stats = normalizer.init(x)
    gradient = jax.jit(jax.grad(lambda x: sum(map(jnp.sum, normalizer.apply(params, stats, x)[1].values()))))(x)
    np.testing.assert_array_equal(gradient, np.zeros(x.shape))
