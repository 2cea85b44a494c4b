"""Value, gradient and Hessian of a head at one row."""

import jax
import jax.numpy as jnp
import pytest

from bnjax.derivatives import ColumnHessian, LowRankHessian, expand, hessian_at
from tests.comparison import assert_close
from tests.derivatives.cases import FIRST, HEADS, polynomial_head, relu_head, tanh_head

ROW, LABEL = jnp.array([0.3, -0.8, 1.1, 0.2]), jnp.array(2)


def quadratic(row, matrix):
    return row @ matrix @ row + jnp.sum(row)


def test_a_quadratic_form_has_its_matrix_as_hessian():
    matrix = FIRST[:4, :4]
    found = expand(quadratic, ROW, matrix)
    assert_close(found.value, ROW @ matrix @ ROW + jnp.sum(ROW))
    assert_close(found.gradient, (matrix + matrix.T) @ ROW + 1, order=1)
    assert_close(found.hessian, matrix + matrix.T, order=2)


def test_logistic_loss_has_its_closed_form():
    def logistic(row, sign):
        return jnp.log1p(jnp.exp(-sign * jnp.sum(row)))

    found, sigmoid = expand(logistic, ROW, jnp.array(1.0)), 1 / (1 + jnp.exp(jnp.sum(ROW)))
    assert_close(found.gradient, -sigmoid * jnp.ones(4), order=1)
    assert_close(found.hessian, sigmoid * (1 - sigmoid) * jnp.ones((4, 4)), order=2)


def test_a_row_with_positions_keeps_its_shape():
    row = ROW.reshape(2, 2)
    found = expand(tanh_head, row, LABEL)
    assert found.gradient.shape == (2, 2)
    assert_close(found.hessian.reshape(4, 4), expand(tanh_head, ROW, LABEL).hessian, order=2)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("shape", [(4,), (2, 2)])
def test_diagonal_and_products_are_those_of_the_dense_hessian(name, shape):
    head, row = HEADS[name], ROW.reshape(shape)
    vector = jnp.cos(jnp.arange(4.0)).reshape(shape)
    dense = jax.hessian(head)(row, LABEL).reshape(4, 4)
    for chunk in (1, 3, 64):
        hessian = hessian_at(head, row, LABEL, chunk=chunk)
        assert_close(hessian.diagonal(), jnp.diag(dense).reshape(shape), order=2)
        assert_close(hessian.product(vector), (dense @ vector.ravel()).reshape(shape), order=2)


def test_only_piecewise_linear_logits_take_the_low_rank_form():
    assert isinstance(hessian_at(relu_head, ROW, LABEL), LowRankHessian)
    assert isinstance(hessian_at(tanh_head, ROW, LABEL), ColumnHessian)
    assert isinstance(hessian_at(polynomial_head, ROW, LABEL), ColumnHessian)
