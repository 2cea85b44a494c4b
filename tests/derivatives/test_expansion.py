"""Value, gradient and Hessian of a head at one row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.derivatives import ColumnHessian, LowRankHessian, expand, hessian_at
from tests.comparison import assert_close
from tests.derivatives.cases import FIRST, HEADS, compiled_fast

ROW, LABEL = np.array([0.3, -0.8, 1.1, 0.2]), jnp.array(2)


def quadratic(row, matrix):
    return row @ matrix @ row + jnp.sum(row)


def test_a_quadratic_form_has_its_matrix_as_hessian():
    matrix = np.asarray(FIRST)[:4, :4]
    found = compiled_fast(expand, static_argnums=0)(quadratic, ROW, matrix)
    assert_close(found.value, ROW @ matrix @ ROW + np.sum(ROW))
    assert_close(found.gradient, (matrix + matrix.T) @ ROW + 1, order=1)
    assert_close(found.hessian, matrix + matrix.T, order=2)


def test_logistic_loss_has_its_closed_form():
    def logistic(row, sign):
        return jnp.log1p(jnp.exp(-sign * jnp.sum(row)))

    found = compiled_fast(expand, static_argnums=0)(logistic, ROW, jnp.array(1.0))
    sigmoid = 1 / (1 + np.exp(np.sum(ROW)))
    assert_close(found.gradient, -sigmoid * np.ones(4), order=1)
    assert_close(found.hessian, sigmoid * (1 - sigmoid) * np.ones((4, 4)), order=2)


@pytest.mark.parametrize("name", HEADS)
def test_all_forms_agree_on_a_row_with_positions(name):
    head, row, vector = HEADS[name], ROW.reshape(2, 2), jnp.asarray(np.cos(np.arange(4.0)).reshape(2, 2))

    @compiled_fast
    def forms(row):
        hessian, flat = hessian_at(head, row, LABEL, chunk=3), expand(head, row.ravel(), LABEL)
        return expand(head, row, LABEL), flat, hessian.diagonal(), hessian.product(vector)

    found, flat, diagonal, product = jax.device_get(forms(row))
    assert_close(found.gradient, flat.gradient.reshape(2, 2), order=1)
    assert_close(found.hessian.reshape(4, 4), flat.hessian, order=2)
    assert_close(diagonal.ravel(), np.diag(flat.hessian), order=2)
    assert_close(product.ravel(), flat.hessian @ vector.ravel(), order=2)


def test_only_piecewise_linear_logits_take_the_low_rank_form():
    forms = {}

    def note(row):
        forms.update({name: type(hessian_at(head, row, LABEL)) for name, head in HEADS.items()})
        return row

    jax.eval_shape(note, ROW)
    assert forms == {"relu": LowRankHessian, "tanh": ColumnHessian, "polynomial": ColumnHessian}
