from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from bnjax.normalizers import batch_norm
from bnjax.normalizers.moments import moments, statistics_dtype
from tests.comparison import assert_close

EPSILON = 1e-3


def ours(x):
    normalizer = batch_norm(epsilon=EPSILON, affine=False)
    return normalizer.apply({}, normalizer.init(x)[1], x)[0]


def flax_default(x):
    module = nn.BatchNorm(False, epsilon=EPSILON, use_scale=False, use_bias=False, dtype=x.dtype)
    stats = {"mean": jnp.zeros(x.shape[-1], x.dtype), "var": jnp.ones(x.shape[-1], x.dtype)}
    return module.apply({"batch_stats": stats}, x, mutable=["batch_stats"])[0]


@partial(jax.jit, static_argnums=0)
def directional_derivatives(function, x, direction):
    """Return the first to fourth derivative of `t ↦ function(x + t · direction)` at 0."""
    along, found = (lambda t: function(x + t * direction)), []
    for _ in range(4):
        along = partial(lambda inner, t: jax.jvp(inner, (t,), (jnp.ones_like(t),))[1], along)
        found.append(along(jnp.zeros((), x.dtype)))
    return found


@pytest.mark.parametrize("constant", [0.0, 0.5])
def test_derivatives_at_a_dead_feature_are_those_of_the_closed_form_and_flax_halves_the_third(constant):
    direction = np.random.default_rng(0).normal(size=(8, 1))
    # On the line through a constant, with w the centred direction and V its variance, ŷ(t) = t w / √(V t² + ε).
    w = direction - direction.mean()
    variance = np.mean(w**2)
    truth = [w / EPSILON**0.5, 0 * w, -3 * variance * w / EPSILON**1.5, 0 * w]

    x = jnp.full((8, 1), constant)
    found = directional_derivatives(ours, x, direction)
    for order, (actual, expected) in enumerate(zip(found, truth, strict=True), start=1):
        assert_close(actual, expected, order=order, scale=EPSILON ** (-order / 2))

    third = directional_derivatives(flax_default, x, direction)[2]
    assert_close(third, truth[2] / 2, order=3)


def test_derivatives_survive_a_mean_of_a_thousand_deviations_in_float32_and_flax_loses_the_first():
    generator = np.random.default_rng(0)
    x = jnp.asarray(1000 + generator.normal(size=(64, 5)), jnp.float32)
    direction = jnp.asarray(generator.normal(size=x.shape), jnp.float32)
    truth = directional_derivatives(ours, x.astype(jnp.float64), direction.astype(jnp.float64))

    def errors(function):
        found = directional_derivatives(function, x, direction)
        pairs = zip(map(np.asarray, found), map(np.asarray, truth), strict=True)
        return [float(np.max(abs(a - b)) / np.max(abs(b))) for a, b in pairs]

    # The mean, and with it ŷ, is known to about mean/std · 1.2e-7.
    assert max(errors(ours)) < 5e-4
    assert min(errors(flax_default)) > 1e-2


def test_moments_are_the_mean_and_the_biased_variance_on_kept_axes():
    x = jnp.asarray([[1.0, 5.0], [3.0, 5.0], [8.0, 5.0]])
    found = moments(x, (0,))
    assert_close(found.mean, [[4.0, 5.0]])
    assert_close(found.variance, [[26 / 3, 0.0]])
    assert moments(x, (1,)).mean.shape == (3, 1)


@settings(max_examples=10)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.data())
def test_moments_equal_numpys_for_any_shape_and_axes(shape, data):
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1).map(lambda chosen: tuple(sorted(chosen))))
    x = np.random.default_rng(0).normal(size=shape)
    found = jax.jit(moments, static_argnums=1)(jnp.asarray(x), axes)
    assert_close(found.mean, x.mean(axes, keepdims=True), scale=1.0)
    assert_close(found.variance, x.var(axes, keepdims=True), scale=1.0)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (jnp.float16, jnp.float32),
        (jnp.bfloat16, jnp.float32),
        (jnp.float32, jnp.float32),
        (jnp.float64, jnp.float64),
    ],
)
def test_moments_are_at_least_float32(dtype, expected):
    assert statistics_dtype(jnp.dtype(dtype)) == expected
    found = moments(jnp.ones((2, 2), dtype), (0,))
    assert found.mean.dtype == found.variance.dtype == expected


def test_half_precision_moments_are_added_up_in_float32():
    x = jnp.full((10_000, 1), 100.0, jnp.float16)  # Their sum is beyond float16.
    assert moments(x, (0,)).mean.item() == 100.0
