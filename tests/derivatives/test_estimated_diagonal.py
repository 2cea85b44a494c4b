"""What the samples of an estimated diagonal are for Hessians whose products are known."""

import jax
import jax.numpy as jnp
import numpy as np

from bnjax import Probes
from bnjax.derivatives.expansion import ColumnHessian

PROBES = Probes(64, jax.random.key(0))


def samples(matrix, row: int):
    hessian = ColumnHessian(lambda v: jnp.asarray(matrix) @ v, jnp.zeros(2), 3)
    return np.asarray(PROBES.samples(hessian, jnp.asarray(row)))


def test_of_a_diagonal_hessian_every_sample_is_the_diagonal():
    np.testing.assert_array_equal(samples([[2.0, 0.0], [0.0, -3.0]], 0), np.broadcast_to([2.0, -3.0], (64, 2)))


def test_of_an_exchange_the_samples_are_both_signs_about_equally_often():
    found = samples([[0.0, 1.0], [1.0, 0.0]], 0)
    np.testing.assert_array_equal(np.abs(found), np.ones((64, 2)))
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    assert abs(found[:, 0].mean()) <= 4 / 64**0.5


def test_every_row_has_signs_of_its_own():
    assert (samples([[0.0, 1.0], [1.0, 0.0]], 0) != samples([[0.0, 1.0], [1.0, 0.0]], 1)).any()
