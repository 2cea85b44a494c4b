import jax.numpy as jnp
import numpy as np
import pytest

from tests.comparison import assert_close


def test_rounding_passes_and_more_than_rounding_does_not():
    assert_close(1.0 + 1e-15, 1.0)
    with pytest.raises(AssertionError, match="1 of 1 entries differ"):
        assert_close(1.0 + 1e-13, 1.0)


def test_the_tolerance_follows_the_order_the_scale_and_the_less_precise_dtype():
    assert_close(1.0 + 1e-13, 1.0, order=1)
    assert_close(1e-13, 0.0, scale=10.0)
    assert_close(jnp.float32(1) + jnp.float32(1e-6), np.float64(1))


def test_a_failure_names_the_index_the_values_and_the_ratio():
    expected = r"1 of 4 entries differ; the worst is at \(1, 0\): .*3\.5.*, expected .*3\.0.*times the tolerance"
    with pytest.raises(AssertionError, match=expected):
        assert_close([[1.0, 2.0], [3.5, 4.0]], [[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(("actual", "expected"), [(np.nan, 1.0), (1.0, np.nan), (np.inf, np.inf)])
def test_what_is_not_finite_never_passes(actual, expected):
    with pytest.raises(AssertionError):
        assert_close(actual, expected)


def test_shapes_are_not_broadcast():
    with pytest.raises(AssertionError, match="shape"):
        assert_close([1.0, 1.0], 1.0)
