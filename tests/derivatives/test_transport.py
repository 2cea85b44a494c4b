"""Gradients and Hessians of terms arrive before the normalizer as the chain rule says, second derivatives included."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.derivatives import TERM_PARTS, HessianOperator, pull_back, pulled_back, terms
from bnjax.derivatives.transport import DENSE_LIMIT, input_hessian_norms, output_hessian_norms
from tests.comparison import assert_close
from tests.derivatives.cases import CASES, compiled_fast, reference, sorted_terms


@pytest.mark.parametrize("name", ["tanh_rows_off_center", "relu_maps"])
def test_input_gradients_are_those_of_the_composed_term(name):
    wanted = reference(name)

    @compiled_fast
    def arriving(problem, gradients):
        return pull_back(problem.standardization, problem.x, gradients)

    arrived = np.asarray(arriving(CASES[name].problem, sorted_terms(name).gradients))
    for index, key in enumerate(TERM_PARTS):
        scale = max(1.0, float(np.abs(wanted[key[0], "total"].input_gradient).max()))
        assert_close(arrived[index], wanted[key].input_gradient, order=2, scale=scale)


@pytest.mark.parametrize("name", ["tanh_rows_off_center", "relu_maps"])
def test_hessians_on_both_sides_are_those_of_the_composed_term(name):
    problem, wanted = CASES[name].problem, reference(name)

    @compiled_fast
    def hessians(problem):
        def fields(standardized):
            heads, axis = problem.row_heads(), problem.feature_axis
            return terms(heads, problem.center, standardized, feature_axis=axis).gradients

        at_input = pulled_back(problem.standardization, fields)
        return jax.jacfwd(fields)(problem.standardization(problem.x)), jax.jacfwd(at_input)(problem.x)

    shape = len(TERM_PARTS), problem.x.size, problem.x.size
    dense = (np.asarray(hessian).reshape(shape) for hessian in hessians(problem))
    for key, at_output, at_input in zip(TERM_PARTS, *dense, strict=True):
        assert_close(at_output, wanted[key].output_hessian, order=2, scale=10.0)
        assert_close(at_input, wanted[key].input_hessian, order=3, scale=10.0)


WEIGHTS = np.random.default_rng(1).normal(size=(3, 2))


def two_fields(y):
    """Return the gradients of `Σ w_ij y_ij³ / 6` and of half the squared length of each row's sum."""
    return jnp.stack([WEIGHTS * y**2 / 2, jnp.broadcast_to(jnp.sum(y, axis=1, keepdims=True), y.shape)])


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_hessian_norms_at_the_output_have_their_closed_form_at_any_size_of_the_loss(size):
    y = np.arange(6.0).reshape(3, 2)
    expected = [np.linalg.norm(WEIGHTS * y), (3 * 2.0**2) ** 0.5]
    norms = compiled_fast(partial(output_hessian_norms, lambda y: size * two_fields(y), chunk=1))(y)
    assert_close(np.asarray(norms) / size, expected, order=2)


def test_hessian_norms_at_the_input_are_those_of_the_dense_hessians():
    at_input = pulled_back(lambda x: jnp.sin(x) * jnp.sum(x), two_fields)

    @compiled_fast
    def both(x):
        return input_hessian_norms(at_input, x, chunk=4), jax.jacfwd(at_input)(x).reshape(2, -1)

    norms, dense = both(np.random.default_rng(2).normal(size=(3, 2)))
    assert_close(norms, np.linalg.norm(dense, axis=1), order=2)


def test_gradients_of_a_more_precise_head_are_carried_back_in_the_precision_of_the_features():
    x, gradients = jnp.ones((3, 2), jnp.float32), jnp.ones((1, 3, 2), jnp.float64)
    assert pull_back(lambda x: 2 * x, x, gradients).dtype == jnp.float32


MATRIX = np.random.default_rng(0).normal(size=(4, 4))
OPERATOR = HessianOperator(lambda vector: jnp.asarray(MATRIX) @ vector, 4, jnp.dtype("float64"))


def test_an_operator_multiplies_vectors_and_matrices():
    assert OPERATOR.shape == (4, 4)
    assert OPERATOR.dtype == jnp.float64
    assert_close(OPERATOR @ MATRIX[0], MATRIX @ MATRIX[0])
    assert_close(OPERATOR @ MATRIX[:, :3], MATRIX @ MATRIX[:, :3])


def test_a_dense_operator_is_its_matrix_column_by_column():
    assert_close(OPERATOR.dense(), MATRIX)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (), (4, 1, 1)])
def test_an_operator_names_the_shapes_that_it_multiplies(shape):
    with pytest.raises(ValueError, match=r"of shape \(4, 4\) over a flattened batch needs \(4,\) or \(4, m\), got"):
        _ = OPERATOR @ jnp.ones(shape)


def test_a_dense_matrix_over_the_limit_is_refused_before_anything_is_computed():
    size = DENSE_LIMIT + 1
    with pytest.raises(ValueError, match=rf"at most {DENSE_LIMIT} rows, got {size}; use products"):
        HessianOperator(lambda _: pytest.fail("computed"), size, jnp.dtype("float64")).dense()
