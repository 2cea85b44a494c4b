import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.normalizers import batch_norm, batch_renorm, frozen_batch_norm
from tests.comparison import assert_close
from tests.normalizers.cases import MAPS, ROWS, compiled, drawn_like, features

both_shapes = pytest.mark.parametrize("shape", [ROWS, MAPS], ids=["rows", "maps"])
both_derivatives = pytest.mark.parametrize("stop_gradient", [True, False], ids=["published", "differentiated"])


@both_shapes
@both_derivatives
def test_inside_the_clip_range_the_values_are_those_of_the_running_statistics(shape, stop_gradient):
    x, normalizer = features(shape), batch_renorm(r_max=100.0, d_max=100.0, stop_gradient=stop_gradient)
    params, stats = (drawn_like(state) for state in normalizer.init(x))
    assert_close(compiled(normalizer, params, stats, x)[0], compiled(frozen_batch_norm(), params, stats, x)[0])


@both_shapes
@both_derivatives
def test_running_statistics_equal_to_the_batchs_give_batch_norm(shape, stop_gradient):
    x = features(shape)
    params, stats = frozen_batch_norm().init(x)
    y, _ = compiled(batch_renorm(stop_gradient=stop_gradient), params, stats, x)
    assert_close(y, compiled(batch_norm(), params, stats, x)[0])


def test_no_room_for_r_and_d_gives_batch_norm_with_its_derivative():
    x, closed = features(), batch_renorm(r_max=1.0, d_max=0.0)
    params, stats = (drawn_like(state) for state in closed.init(x))

    def gradient(normalizer):
        return jax.jit(jax.grad(lambda x: jnp.sum(normalizer.apply(params, stats, x)[0] ** 3)))(x)

    assert_close(compiled(closed, params, stats, x)[0], compiled(batch_norm(), params, stats, x)[0])
    assert_close(gradient(closed), gradient(batch_norm()), order=1)


def test_r_and_d_are_clipped():
    x = jnp.asarray([[1.0, 0.0, 20.0], [3.0, 0.2, 22.0]])  # means 2, 0.1, 21; deviations 1, 0.1, 1
    normalizer = batch_renorm(r_max=2.0, d_max=3.0, epsilon=0.0, affine=False)
    stats = {"mean": jnp.asarray([1.0, 0.0, 1.0]), "variance": jnp.asarray([0.01, 1.0, 1.0])}
    # r is 10, 0.1 and 1, d is 10, 0.1 and 20.
    y, _ = compiled(normalizer, {}, stats, x)
    assert_close(y, [[-2.0 + 3.0, -0.5 + 0.1, -1.0 + 3.0], [2.0 + 3.0, 0.5 + 0.1, 1.0 + 3.0]])


def test_published_derivatives_take_r_and_d_as_constants():
    x, normalizer = features(ROWS), batch_renorm(r_max=100.0, d_max=100.0, affine=False)
    stats = drawn_like(normalizer.init(x)[1])
    r = np.sqrt((np.var(np.asarray(x), 0) + 1e-5) / (np.asarray(stats["variance"]) + 1e-5))
    cotangent = features(ROWS, seed=3)

    def pulled_back(normalizer):
        pull_back = jax.jit(lambda x: jax.vjp(lambda x: normalizer.apply({}, stats, x)[0], x)[1](cotangent)[0])
        return np.asarray(pull_back(x))

    assert_close(pulled_back(normalizer), r * pulled_back(batch_norm(affine=False)), order=1)


def test_the_running_statistics_are_updated_as_by_batch_norm():
    x = features()
    params, stats = (drawn_like(state) for state in batch_norm().init(x))
    updated, expected = (compiled(norm, params, stats, x)[1] for norm in (batch_renorm(), batch_norm()))
    assert_close(updated["mean"], expected["mean"])
    assert_close(updated["variance"], expected["variance"])


@pytest.mark.parametrize("r_max", [3.0, 1e9, math.inf])
def test_zero_variance_is_refused_without_epsilon_whatever_the_clip_range(r_max):
    x = features(ROWS).at[:, 2].set(0.1)
    with pytest.raises(ValueError, match=r"batch_renorm .*x\[0, 2\] has zero variance"):
        batch_renorm(r_max=r_max, epsilon=0.0).check(x)


@pytest.mark.parametrize("bounds", [{"r_max": 0.5}, {"d_max": -1.0}, {"r_max": math.nan}, {"d_max": math.nan}], ids=str)
def test_impossible_bounds_are_refused(bounds):
    with pytest.raises(ValueError, match="r_max >= 1 and d_max >= 0, got"):
        batch_renorm(**bounds)
