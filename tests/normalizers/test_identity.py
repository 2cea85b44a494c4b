import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.normalizers import identity
from tests.comparison import assert_close
from tests.normalizers.cases import compiled, drawn_like, features


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float64], ids=lambda dtype: dtype.__name__)
def test_it_gives_its_input_back_with_scale_one(dtype):
    x = features(dtype=dtype)
    y, stats = identity().apply({}, {}, x)
    np.testing.assert_array_equal(y, x)
    assert stats == {}
    (values, scale), _ = identity().standardize({}, x, mode="batch", key=None)
    np.testing.assert_array_equal(values, x)
    assert scale.item() == 1


def test_its_affine_phase_is_off_unless_asked_for():
    x = features()
    assert identity().init(x) == ({}, {})
    params = drawn_like(identity(affine=True).init(x)[0])
    assert_close(compiled(identity(affine=True), params, {}, x)[0], params["scale"] * x + params["bias"])


def test_a_single_row_of_one_constant_feature_is_taken():
    assert_close(identity().apply({}, {}, jnp.ones((1, 1)))[0], [[1.0]])
