from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from bnjax.normalizers import batch_norm
from tests.comparison import assert_close
from tests.normalizers.cases import MAPS, ROWS, compiled, drawn_like, features

both_shapes = pytest.mark.parametrize("shape", [ROWS, MAPS], ids=["rows", "maps"])


@both_shapes
def test_values_and_running_statistics_of_several_updates_equal_flaxs(shape):
    normalizer = batch_norm(epsilon=1e-3, momentum=0.7)
    flax_module = nn.BatchNorm(epsilon=1e-3, momentum=0.7, use_fast_variance=False, param_dtype=jnp.float64)
    params, stats = normalizer.init(features(shape))
    params = drawn_like(params)
    flax_stats = {"mean": stats["mean"], "var": stats["variance"]}

    @jax.jit
    def flaxs(flax_stats, x) -> Any:
        variables = {"params": params, "batch_stats": flax_stats}
        return flax_module.apply(variables, x, use_running_average=False, mutable=["batch_stats"])

    for seed in range(3):
        x = features(shape, seed=seed)
        y, stats = compiled(normalizer, params, stats, x)
        expected, updated = flaxs(flax_stats, x)
        flax_stats = updated["batch_stats"]
        assert_close(y, expected)
    assert_close(stats["mean"], flax_stats["mean"])
    assert_close(stats["variance"], flax_stats["var"])
    expected: Any = flax_module.apply({"params": params, "batch_stats": flax_stats}, x, use_running_average=True)
    assert_close(compiled(normalizer, params, stats, x, mode="running")[0], expected)


def test_momentum_is_the_share_that_is_kept():
    x = jnp.asarray([[1.0], [3.0]])  # mean 2, biased variance 1
    for momentum, mean in [(1.0, 0.0), (0.75, 0.5), (0.0, 2.0)]:
        normalizer = batch_norm(momentum=momentum)
        _, stats = normalizer.apply(*normalizer.init(x), x)
        assert_close(stats["mean"], [mean])
        assert_close(stats["variance"], [1.0])


@settings(max_examples=6)
@given(st.integers(2, 6), st.lists(st.integers(1, 3), max_size=2), st.integers(1, 4))
def test_standardized_features_have_mean_zero_and_variance_one_for_any_shape(rows, positions, width):
    x = features((rows, *positions, width))
    normalizer = batch_norm(epsilon=0.0, affine=False)
    y = np.asarray(compiled(normalizer, *normalizer.init(x), x)[0]).reshape(-1, width)
    assert_close(y.mean(axis=0), np.zeros(width))
    # A batch of two close values has lost digits to their mean.
    assert_close((y**2).mean(axis=0), np.ones(width), scale=100)


def test_two_rows_become_plus_and_minus_one():
    x = jnp.asarray([[3.0, -1e-8, 5.0], [1.0, 1e-8, 5.5]])
    y, _ = compiled(batch_norm(epsilon=0.0, affine=False), {}, batch_norm().init(x)[1], x)
    assert_close(y, [[1.0, -1.0, -1.0], [-1.0, 1.0, 1.0]])


def test_repeated_rows_change_nothing():
    x, normalizer = features(), batch_norm(epsilon=0.3)
    params, stats = normalizer.init(x)
    y, updated = compiled(normalizer, params, stats, x)
    twice, updated_twice = compiled(normalizer, params, stats, jnp.concatenate([x, x]))
    assert_close(twice, np.concatenate([y, y]))
    assert_close(updated_twice["variance"], updated["variance"])


def test_a_dead_feature_gives_the_bias_where_epsilon_is_positive():
    normalizer = batch_norm()
    x = features(ROWS).at[:, 1].set(0.0)
    params, stats = normalizer.init(x)
    y, _ = compiled(normalizer, {**params, "bias": jnp.full(4, 0.5)}, stats, x)
    assert_close(y[:, 1], np.full(6, 0.5))
