"""A term's Hessian as an operator: that of the dense reference, or a clear refusal."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matfree import decomp

import bnjax
from bnjax.normalizers import batch_norm
from tests.comparison import assert_close
from tests.derivatives.cases import CASES, ROWS, features, reference


@pytest.mark.parametrize(
    ("term", "part", "side"),
    [("diagonal", "shared", "input"), ("remainder", "total", "input"), ("off_diagonal", "individual", "output")],
)
def test_the_hessian_of_a_term_is_that_of_the_dense_reference(term, part, side):
    case, wanted = CASES["tanh_rows_off_center"], reference("tanh_rows_off_center")[term, part]
    operator = bnjax.term_hessian(
        case.loss, case.normalizer, *case.data, term=term, part=part, side=side, **case.options
    )
    dense = wanted.input_hessian if side == "input" else wanted.output_hessian
    vector = np.random.default_rng(0).normal(size=operator.shape[0])
    found = np.asarray(operator.dense())
    assert operator.shape == dense.shape
    assert operator.dtype == jnp.float64
    assert_close(operator @ vector, dense @ vector, order=3, scale=10.0)
    assert_close(found, dense, order=3, scale=10.0)
    assert_close(found, found.T, order=3, scale=10.0)


def test_the_shared_diagonal_has_no_hessian_before_batch_norm_at_epsilon_zero():
    operator = bnjax.term_hessian(
        lambda row: jnp.sum(row**2), batch_norm(epsilon=0.0), features((5, 2)), term="diagonal", part="shared"
    )
    assert_close(operator.dense(), np.zeros((10, 10)), order=2)


def test_the_dense_hessian_of_a_large_batch_is_refused():
    operator = bnjax.term_hessian(lambda row: jnp.sum(row**2), batch_norm(), features((2049, 2)), term="gradient")
    with pytest.raises(ValueError, match="at most 4096 rows, got 4098; use products"):
        operator.dense()


def test_matfree_takes_the_operator():
    case = CASES["tanh_rows_off_center"]
    operator = bnjax.term_hessian(case.loss, case.normalizer, *case.data, term="off_diagonal", **case.options)

    @jax.jit
    def tridiagonal(start) -> Any:
        return decomp.tridiag_sym(4)(lambda vector: operator @ vector, start)

    found = tridiagonal(np.cos(np.arange(operator.shape[0])))
    basis, matrix = np.asarray(found.Q_tall), found.J_small
    assert_close(basis @ np.asarray(operator.dense()) @ basis.T, matrix, order=3, scale=10.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"term": "hessian"},
            r"term needs to be one of \('gradient', .*\) and part one of .*, got 'hessian' and 'total'",
        ),
        ({"term": "remainder", "part": "shared"}, r"the remainder has only 'total'\), got 'remainder' and 'shared'"),
        ({"term": "diagonal", "part": "whole"}, "got 'diagonal' and 'whole'"),
        ({"term": "diagonal", "side": "before"}, "side needs to be 'input' or 'output', got 'before'"),
    ],
)
@pytest.mark.usefixtures("signatures_are_not_checked")
def test_names_of_no_term_part_or_side_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bnjax.term_hessian(lambda row: jnp.sum(row**2), batch_norm(), features(ROWS), **options)


def test_a_complex_vector_is_refused_and_another_real_dtype_is_converted():
    operator = bnjax.term_hessian(lambda row: jnp.sum(row**2), batch_norm(), features(ROWS), term="diagonal")
    with pytest.raises(TypeError, match="needs a real vector or matrix"):
        _ = operator @ np.ones(24, complex)
    assert_close(operator @ np.ones(24, np.int32), operator @ np.ones(24))
