"""Along its gradient a quadratic loss has closed forms, and any loss the values that single evaluations have."""

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.curvature import along_gradient, curvature_along_gradient
from tests.comparison import assert_close

STEP_SIZES = np.asarray([0.01, 0.1, 0.5, 2.0, 3.0])


def quadratic(matrix, params):
    """Return ½ θᵀ A θ of a tree with two leaves."""
    flat = jnp.concatenate([params["one"], params["other"].ravel()])
    return flat @ matrix @ flat / 2


@pytest.fixture(scope="module")
def case():
    generator = np.random.default_rng(0)
    root = generator.normal(size=(7, 7))
    params = {"one": generator.normal(size=3), "other": generator.normal(size=(2, 2))}
    flat = np.concatenate([params["one"], np.ravel(params["other"])])
    return root + root.T, params, flat


@pytest.mark.parametrize("at_once", [1, 2, 5, 9])
def test_a_quadratic_loss_has_its_closed_forms(case, at_once):
    matrix, params, flat = case
    gradient = matrix @ flat
    found = jax.jit(partial(along_gradient, partial(quadratic, matrix), at_once=at_once))(params, STEP_SIZES)
    moved = flat - STEP_SIZES[:, None] * gradient
    assert_close(found.loss, flat @ gradient / 2)
    assert_close(found.gradient_norm, np.linalg.norm(gradient), order=1)
    assert_close(found.losses, np.sum(moved * (moved @ matrix), axis=1) / 2)
    assert_close(found.gradient_distances, STEP_SIZES * np.linalg.norm(matrix @ gradient), order=1)
    assert_close(found.smoothness, np.full(5, np.linalg.norm(matrix @ gradient) / np.linalg.norm(gradient)), order=2)


def test_the_curvature_is_the_rayleigh_quotient_of_the_gradient(case):
    matrix, params, flat = case
    gradient = matrix @ flat
    found = jax.jit(partial(curvature_along_gradient, partial(quadratic, matrix)))(params)
    assert_close(found, gradient @ matrix @ gradient / (gradient @ gradient), order=2)


def test_the_smoothness_at_small_steps_is_at_least_the_curvature():
    def loss(params):
        return jnp.sum(jnp.sin(jnp.arange(1, 5) * params)) + jnp.prod(params)

    @jax.jit
    def measured(params):
        (smoothness,) = along_gradient(loss, params, jnp.asarray([1e-6])).smoothness
        return smoothness, curvature_along_gradient(loss, params), jax.grad(loss)(params), jax.hessian(loss)(params)

    smoothness, curvature, gradient, hessian = jax.device_get(measured(np.asarray([0.3, -0.2, 0.9, 0.4])))
    assert np.abs(smoothness / (np.linalg.norm(hessian @ gradient) / np.linalg.norm(gradient)) - 1) < 1e-4
    assert smoothness >= np.abs(curvature)


def power(exponent, scale, params):
    return jnp.float32(scale) * jnp.sum(params**exponent)


ONES = np.ones(3, np.float32)


# Of s Σ θᵖ at θ = 1 the gradient is s p and the Hessian s p (p - 1).
@pytest.mark.parametrize(("exponent", "scale"), [(2, 1e-18), (2, 1e-30), (3, 1e18), (3, 1e20), (3, 3e36)])
def test_a_very_small_or_large_loss_has_its_closed_forms_in_single_precision(exponent, scale):
    @jax.jit
    def measured(params):
        loss = partial(power, exponent, scale)
        return along_gradient(loss, params, [0.1 / scale]), curvature_along_gradient(loss, params)

    along, curvature = measured(ONES)
    moved = 1 - 0.1 * exponent
    smoothness = (1 - moved ** (exponent - 1)) / 0.1
    assert_close(along.gradient_norm / scale, exponent * 3**0.5, order=1)
    assert_close(along.smoothness / scale, [smoothness], order=2)
    assert_close(curvature / scale, exponent * (exponent - 1), order=2)


def test_a_step_that_moves_nothing_has_no_smoothness():
    assert np.isnan(along_gradient(partial(power, 2, 1e-18), ONES, [0.1]).smoothness).all()
    assert np.isnan(along_gradient(partial(power, 2, 0.0), ONES, [0.1]).smoothness).all()


def test_step_sizes_may_be_a_list_and_do_not_change_the_precision_of_the_parameters():
    found = along_gradient(partial(power, 2, 1.0), ONES, [0.1, 0.25])
    assert found.losses.dtype == jnp.float32
    assert_close(found.losses, 3 * np.asarray([0.8, 0.5]) ** 2)


@pytest.mark.usefixtures("signatures_are_not_checked")
def test_step_sizes_and_counts_that_cannot_be_are_refused():
    loss, broken = partial(power, 2, 1.0), cast("Any", 2.0)
    for step_sizes, shape in ((np.ones(()), r"\(\)"), ([], r"\(0,\)"), (np.ones((1, 1)), r"\(1, 1\)")):
        with pytest.raises(ValueError, match=f"one axis of one or more numbers, got shape {shape}"):
            along_gradient(loss, ONES, step_sizes)
    with pytest.raises(TypeError, match=r"at_once needs to be an integer, got 2\.0"):
        along_gradient(loss, ONES, [0.1], at_once=broken)
    with pytest.raises(ValueError, match="at_once needs to be at least 1, got 0"):
        along_gradient(loss, ONES, [0.1], at_once=0)
