"""The factors of a Hessian behind piecewise-linear logits give what the dense Hessian gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnjax
from bnjax import cross_entropy_head, logits_head
from bnjax.derivatives import LowRankHessian, is_piecewise_linear, low_rank_hessian
from bnjax.normalizers import batch_norm
from tests.comparison import assert_close

DRAWN = np.random.default_rng(1)
MANY, FEW = jnp.asarray(DRAWN.normal(size=(32, 8))), jnp.asarray(DRAWN.normal(size=(8, 3)))
KERNEL = jnp.asarray(DRAWN.normal(size=(3, 3, 2, 4)))


def relu(row):
    return jax.nn.relu(row @ MANY[:5] + 0.1) @ FEW


def leaky_relu(row):
    return jax.nn.leaky_relu(row @ MANY[:5]) @ FEW


def maxout(row):
    return jnp.max((row @ MANY[:5]).reshape(2, 4), axis=0) @ FEW[:4]


def absolute(row):
    return jnp.abs(row @ MANY[:5]) @ FEW


def more_logits_than_features(row):
    return jax.nn.relu(row @ MANY[:2])


def convolution(row):
    numbers = ("NHWC", "HWIO", "NHWC")
    maps = jax.lax.conv_general_dilated(row[None], KERNEL, (1, 1), "SAME", dimension_numbers=numbers)
    pooled = jax.lax.reduce_window(jax.nn.relu(maps), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return jnp.mean(pooled[0], axis=(0, 1)) @ FEW[:4]


def squared_error(logits, target):
    return jnp.sum((logits - target) ** 2) + jnp.prod(logits[:2])


LOGITS = {
    "relu": (relu, (5,)),
    "leaky_relu": (leaky_relu, (5,)),
    "maxout": (maxout, (5,)),
    "absolute": (absolute, (5,)),
    "more_logits_than_features": (more_logits_than_features, (2,)),
    "convolution_and_pooling": (convolution, (4, 4, 2)),
}


@pytest.mark.parametrize("outer", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("name", LOGITS)
def test_everything_the_factors_offer_is_that_of_the_dense_hessian(name, outer):
    logits, shape = LOGITS[name]
    head = cross_entropy_head(logits) if outer == "cross_entropy" else logits_head(logits, squared_error)
    row, vector = (jnp.asarray(np.random.default_rng(seed).normal(size=shape)) for seed in (0, 1))
    assert is_piecewise_linear(logits, row)

    @jax.jit
    def both(row, vector):
        hessian = low_rank_hessian(head, row, jnp.array(1))
        dense = jax.hessian(head)(row, jnp.array(1)).reshape(row.size, row.size)
        expected = (jnp.diag(dense).reshape(shape), (dense @ vector.ravel()).reshape(shape))
        return (hessian.diagonal(), hessian.product(vector)), expected

    for actual, expected in zip(*both(row, vector), strict=True):
        assert_close(actual, expected, order=2, scale=1 + float(np.abs(expected).max()))


def binary(row):
    return (jax.nn.relu(row @ MANY[:5]) @ FEW)[0]


def binary_cross_entropy(logit, target):
    return jnp.logaddexp(0, logit) - target * logit


def square(row):
    return jax.nn.relu(row @ MANY[:5, :4]).reshape(2, 2)


def determinant(logits, target):
    return target * (logits[0, 0] * logits[1, 1] - logits[0, 1] * logits[1, 0])


@pytest.mark.parametrize(("logits", "outer"), [(binary, binary_cross_entropy), (square, determinant)])
def test_a_scalar_or_a_matrix_of_logits_is_as_good_as_a_vector(logits, outer):
    x, targets = (np.random.default_rng(2).normal(size=shape) for shape in ((4, 5), 4))
    found, wanted = (
        bnjax.blocking(head, batch_norm(), x, targets, expansion_point=0.1, hessian_norms=True)
        for head in (logits_head(logits, outer), lambda row, target: outer(logits(row), target))
    )
    for of_found, of_wanted in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        np.testing.assert_allclose(of_found, of_wanted, rtol=1e-9, atol=1e-11)


def test_the_hessian_of_softmax_is_diag_p_minus_p_p_and_holds_no_label():
    row = np.array([0.4, -0.3, 0.9])
    p = np.exp(row) / np.sum(np.exp(row))

    @jax.jit
    def core_and_diagonal(label):
        hessian = low_rank_hessian(cross_entropy_head(lambda row: row), jnp.asarray(row), label)
        return hessian.core, hessian.diagonal()

    for label in range(3):
        core, diagonal = core_and_diagonal(label)
        assert_close(core, np.diag(p) - np.outer(p, p), order=2)
        assert_close(diagonal, p * (1 - p), order=2)


def test_a_flat_head_has_a_zero_hessian():
    @jax.jit
    def diagonal_and_product(row):
        hessian = low_rank_hessian(logits_head(relu, lambda logits: jnp.sum(logits)), row)
        return hessian.diagonal(), hessian.product(row)

    diagonal, product = diagonal_and_product(np.ones(5))
    assert_close(diagonal, np.zeros(5))
    assert_close(product, np.zeros(5))


@pytest.mark.parametrize(("jacobian", "core"), [("float32", "float64"), ("float64", "float32"), ("float32", "float32")])
def test_the_diagonal_has_the_dtype_of_the_product(jacobian, core):
    hessian = LowRankHessian(jnp.ones((2, 3), jacobian), jnp.eye(2, dtype=core))
    assert hessian.diagonal().dtype == hessian.product(jnp.ones(3, jacobian)).dtype
