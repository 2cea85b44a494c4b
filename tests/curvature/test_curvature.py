"""Products, eigenvalues and trace of training losses are those of the dense Hessian, statistics live or running."""

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree

from bnjax.curvature import (
    RitzValues,
    batch_loss,
    hessian_vector_product,
    linearized_gradient,
    ritz_values,
    spectral_density,
    trace,
)
from bnjax.models import MLP
from bnjax.models.convolution import Convolution
from bnjax.models.normalizer import Normalization
from bnjax.normalizers import batch_norm, layer_norm
from bnjax.normalizers.normalizer import Mode
from tests.comparison import assert_close

CLASSES = 3


class Convolutional(nn.Module):
    """A small network with a convolution."""

    @nn.compact
    def __call__(self, x, *, mode: Mode = "batch"):
        x = Normalization(batch_norm())(Convolution(4, size=2, padding=0)(x), mode=mode)
        return nn.Dense(CLASSES)(jnp.mean(nn.relu(x), axis=(1, 2)))


@partial(jax.jit, static_argnums=0)
def initialized(model, images):
    """Return variables in float64."""
    return jax.tree.map(lambda leaf: leaf.astype(float), model.init(jax.random.key(0), images))


@partial(jax.jit, static_argnames="steps")
def ritz_values_of(matrix, starts, *, steps):
    """Return the Ritz values of a dense matrix from several starts."""
    return jax.vmap(lambda start: ritz_values(partial(jnp.matmul, matrix), start, steps=steps))(starts)


@pytest.fixture(scope="module", params=[("batch", batch_norm()), ("running", batch_norm()), ("batch", layer_norm())])
def small(request):
    """Return a loss of few parameters in float64, a point, its dense Hessian and gradient, all flat."""
    mode, norm = request.param
    generator = np.random.default_rng(0)
    images, labels = jax.device_put((generator.normal(size=(6, 4)), generator.integers(0, CLASSES, 6)))
    model = MLP((5, 4), norm=norm, classes=CLASSES)
    variables = initialized(model, images)
    loss = batch_loss(model, variables.get("batch_stats", {}), images, labels, mode=mode)
    flat, unravel = ravel_pytree(variables["params"])
    flat = np.asarray(flat) + 0.1 * generator.normal(size=flat.shape)  # No bias or shift is zero.
    of_flat = lambda flat: loss(unravel(flat))  # noqa: E731
    hessian, gradient = jax.jit(lambda flat: (jax.hessian(of_flat)(flat), jax.grad(of_flat)(flat)))(flat)
    return of_flat, flat, np.asarray(hessian), np.asarray(gradient)


@pytest.fixture(scope="module")
def hessian_product(small):
    """Return products with the Hessian of `small` as one compiled function returns them and others take them."""
    loss, params, *_ = small
    return jax.jit(partial(linearized_gradient, loss))(params).hessian_product


@pytest.fixture(scope="module")
def matrix():
    """Return a vector and a symmetric matrix with a few large eigenvalues and many small ones of both signs."""
    generator = np.random.default_rng(5)
    rotation, _ = np.linalg.qr(generator.normal(size=(30, 30)))
    eigenvalues = np.concatenate([[9.0, 6.5, 3.0], generator.normal(size=27) * 0.3])
    return np.ones(30), rotation * eigenvalues @ rotation.T


def test_a_product_is_that_of_the_dense_hessian(small):
    loss, params, hessian, gradient = small
    direction = np.random.default_rng(1).normal(size=params.shape)

    @jax.jit
    def found(params, direction):
        linearized = linearized_gradient(loss, params)
        product = hessian_vector_product(loss, params, direction)
        return product, linearized.hessian_product(direction), linearized.gradient

    product, product_of_linearized, gradient_of_linearized = found(params, direction)
    assert_close(product, hessian @ direction, order=2)
    assert_close(product_of_linearized, hessian @ direction, order=2)
    assert_close(gradient_of_linearized, gradient, order=2)


def test_all_steps_of_lanczos_find_all_eigenvalues_that_the_start_sees(small, hessian_product):
    _, params, hessian, _ = small
    eigenvalues = np.linalg.eigvalsh(hessian)
    start = np.random.default_rng(1).normal(size=params.shape)
    ritz = jax.device_get(jax.jit(partial(ritz_values, steps=40))(hessian_product, start))
    assert_close(ritz.values[-1], eigenvalues[-1], order=3)
    assert_close(ritz.values[0], eigenvalues[0], order=3)
    assert_close(np.sum(ritz.weights), 1.0)


def test_within_its_error_bound_of_every_value_lies_an_eigenvalue(matrix):
    params, hessian = matrix
    eigenvalues = np.linalg.eigvalsh(hessian)
    start = np.random.default_rng(2).normal(size=params.shape)
    values, _, error_bounds = (np.asarray(column)[0] for column in ritz_values_of(hessian, start[None], steps=6))
    distance = np.min(np.abs(values[:, None] - eigenvalues), axis=1)
    assert np.all(distance <= error_bounds + 1e-12)
    assert np.max(error_bounds) > 1e-6, "six steps are too few for all"


@pytest.mark.parametrize("size", [2e-38, 1e-23, 1e23, 3e38])
def test_the_length_of_the_start_does_not_matter(size):
    found = jax.jit(partial(ritz_values, partial(jnp.multiply, 3), steps=1))(np.full(4, size, np.float32))
    assert_close(found.values, [3.0])
    assert found.error_bounds[0] < 1e-5


@pytest.mark.parametrize("start", [0.0, np.inf, np.nan])
def test_without_a_start_there_are_no_ritz_values(start):
    found = jax.jit(partial(ritz_values, partial(jnp.multiply, 3), steps=2))(np.full(4, start))
    assert all(np.isnan(numbers).all() for numbers in found)


def test_of_products_that_are_no_numbers_there_are_no_ritz_values():
    found = jax.jit(partial(ritz_values, lambda z: z * np.nan, steps=2))(np.ones(4))
    assert all(np.isnan(numbers).all() for numbers in found)


@jax.jit
def ritz_values_in_factors(basis, eigenvalues, start):
    return ritz_values(lambda z: basis @ (eigenvalues * (basis.T @ z)), start, steps=len(start))


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_where_products_span_less_than_there_are_steps_all_values_are_eigenvalues(rank):
    """A matrix applied as a network's Hessian is, in factors, breaks down to rounding and not exactly."""
    generator = np.random.default_rng(0)
    basis = np.linalg.qr(generator.normal(size=(30, 30)))[0]
    eigenvalues = np.asarray([3.0, -2.0, 1.0, 0.5, 1e-3][:rank] + [0.0] * (30 - rank))
    start = generator.normal(size=30)
    values, weights, error_bounds = map(np.asarray, ritz_values_in_factors(basis, eigenvalues, start))
    distance = np.min(np.abs(values[:, None] - eigenvalues), axis=1)
    assert np.all(distance <= error_bounds + 1e-12)
    assert np.max(error_bounds) < 1e-6
    assert_close(np.sum(weights), 1.0)
    np.testing.assert_allclose(values[[0, -1]], [np.min(eigenvalues), np.max(eigenvalues)], atol=1e-7)


def test_more_steps_than_a_networks_hessian_has_rank_add_nothing(small, hessian_product):
    _, params, hessian, _ = small
    eigenvalues = np.linalg.eigvalsh(hessian)
    start = np.cos(np.arange(1.0, params.size + 1))
    found = jax.device_get(jax.jit(partial(ritz_values, steps=params.size))(hessian_product, start))
    assert eigenvalues[0] - 1e-7 < found.values[0]
    assert found.values[-1] < eigenvalues[-1] + 1e-7


def test_the_weights_integrate_polynomials_of_degree_below_twice_the_steps(matrix):
    params, hessian = matrix
    start = np.random.default_rng(3).normal(size=params.shape)
    unit = start / np.linalg.norm(start)
    values, weights, _ = (np.asarray(column)[0] for column in ritz_values_of(hessian, start[None], steps=6))
    for power in range(12):
        assert_close(weights @ values**power, unit @ np.linalg.matrix_power(hessian, power) @ unit, order=2)


def test_the_trace_is_exact_where_the_subspace_holds_everything(small, hessian_product):
    _, params, hessian, _ = small
    of_product = jax.jit(partial(trace, rank=params.size, samples=2))
    estimate = of_product(hessian_product, params, jax.random.key(0))
    assert_close(estimate.value, np.trace(hessian), order=3)
    assert estimate.standard_error < 1e-10


def test_the_trace_is_without_bias_and_its_error_is_as_large_as_it_says(matrix):
    params, hessian = matrix

    @jax.jit
    @jax.vmap
    def estimated(key):
        return trace(partial(jnp.matmul, hessian), params, key, rank=3, samples=4)

    values, standard_errors = map(np.asarray, estimated(jax.random.split(jax.random.key(1), 400)))
    errors = values - np.trace(hessian)
    assert np.abs(np.mean(errors)) < 4 * np.std(errors) / 20
    assert 0.7 < np.mean(standard_errors**2) / np.var(errors) < 1.3


def test_the_density_integrates_to_one_and_is_that_of_the_dense_hessian(matrix):
    params, hessian = matrix
    starts = np.random.default_rng(4).choice([-1.0, 1.0], (200, *params.shape))
    ritz = ritz_values_of(hessian, starts, steps=12)
    eigenvalues = np.linalg.eigvalsh(hessian)
    whole = eigenvalues[-1] - eigenvalues[0]
    at, width = np.linspace(eigenvalues[0] - whole, eigenvalues[-1] + whole, 2001), 0.05 * whole
    density, error = map(np.asarray, jax.jit(partial(spectral_density, width=width))(ritz, at))
    peaks = np.exp(-(((at[:, None] - eigenvalues) / width) ** 2) / 2) / (width * np.sqrt(2 * np.pi))
    assert np.abs(np.trapezoid(density, at) - 1) < 1e-6
    assert np.trapezoid(np.abs(density - np.mean(peaks, axis=1)), at) < 0.1
    assert np.all(error >= 0)


def test_live_statistics_make_the_loss_blind_to_the_scale_of_weights_in_front_of_them():
    images, labels = jax.device_put((np.random.default_rng(0).normal(size=(8, 6)), np.arange(8) % CLASSES))
    model = MLP((5,), norm=batch_norm(epsilon=0.0), classes=CLASSES)
    variables = initialized(model, images)
    params = variables["params"]
    first = next(name for name, leaves in params.items() if "kernel" in leaves and leaves["kernel"].shape[0] == 6)
    radial = jax.tree.map(np.zeros_like, params)
    radial[first]["kernel"] = params[first]["kernel"]
    losses = {
        True: batch_loss(model, variables["batch_stats"], images, labels),
        False: batch_loss(model, variables["batch_stats"], images, labels, mode="running"),
    }
    for blind, loss in losses.items():
        gradient, product = jax.jit(partial(linearized_gradient, loss))(params)
        along = jax.jit(lambda product: product(radial))(product)
        of_gradient, of_product = (np.asarray(tree[first]["kernel"]) for tree in (gradient, along))
        # L(c W) = L(W): the gradient is of degree -1 in W, and its derivative along W is minus itself.
        error = np.linalg.norm(of_product + of_gradient) / np.linalg.norm(of_gradient)
        assert (error < 1e-10) == blind


def test_through_convolutions_forward_over_reverse_is_reverse_over_reverse():
    images = jax.device_put(np.random.default_rng(0).normal(size=(3, 4, 4, 5)))
    model = Convolutional()
    variables = initialized(model, images)
    loss = batch_loss(model, variables["batch_stats"], images, jax.device_put(np.arange(3)))
    params = variables["params"]
    direction = jax.tree.map(np.cos, params)

    def along(params: Any) -> Any:
        return optax.tree.vdot(jax.grad(loss)(params), direction)

    @jax.jit
    def both(params):
        products = hessian_vector_product(loss, params, direction), jax.grad(along)(params)
        return [ravel_pytree(product)[0] for product in products]

    forward, reverse = both(params)
    assert_close(forward, reverse, order=2)


def test_steps_ranks_and_samples_that_cannot_be_are_refused():
    product = partial(jnp.matmul, np.eye(3))
    with pytest.raises(ValueError, match="steps needs to be between 1 and the 3 numbers"):
        ritz_values(product, np.ones(3), steps=4)
    with pytest.raises(ValueError, match="rank needs to be between 1 and the 3 numbers"):
        trace(product, np.ones(3), jax.random.key(0), rank=4)
    with pytest.raises(ValueError, match="samples needs to be at least 2"):
        trace(product, np.ones(3), jax.random.key(0), rank=1, samples=1)


@pytest.mark.usefixtures("signatures_are_not_checked")
def test_counts_that_are_no_integers_are_refused_and_those_of_numpy_taken():
    product, key = partial(jnp.matmul, np.eye(3)), jax.random.key(0)
    two, half, one = cast("tuple[Any, ...]", (2.0, 2.5, np.int64(1)))
    with pytest.raises(TypeError, match=r"steps needs to be an integer, got 2\.0"):
        ritz_values(product, np.ones(3), steps=two)
    with pytest.raises(TypeError, match=r"rank needs to be an integer, got 2\.5"):
        trace(product, np.ones(3), key, rank=half)
    with pytest.raises(TypeError, match="samples needs to be an integer, got True"):
        trace(product, np.ones(3), key, rank=2, samples=True)
    assert ritz_values(product, np.ones(3), steps=one).values.shape == (1,)


def test_a_batch_loss_of_other_than_one_number_a_row_is_refused():
    images, labels = jax.device_put((np.ones((4, 3)), np.zeros(4, int)))
    model = MLP((2,), classes=1)
    variables = initialized(model, images)
    loss = batch_loss(model, {}, images, labels, loss=lambda outputs, labels: (outputs - labels) ** 2)
    with pytest.raises(ValueError, match=r"the loss of 4 rows needs the shape \(4,\), .* got \(4, 4\)"):
        loss(variables["params"])
    with pytest.raises(ValueError, match="as many images as labels, got 0 and 0"):
        batch_loss(model, {}, images[:0], labels[:0])


def test_whole_numbers_among_the_parameters_and_a_single_start_are_refused():
    mixed = {"a": np.ones(3), "b": np.ones(3, int)}
    with pytest.raises(TypeError, match="floating-point numbers, got float64, int64"):
        trace(lambda tree: tree, mixed, jax.random.key(0), rank=2)
    with pytest.raises(TypeError, match="floating-point numbers"):
        ritz_values(lambda tree: tree, mixed, steps=2)
    alone = RitzValues(*jax.device_put(list(np.ones((3, 2)))))
    with pytest.raises(ValueError, match="2 starts or more"):
        spectral_density(alone, jax.device_put(np.linspace(0, 1, 5)), width=0.1)
