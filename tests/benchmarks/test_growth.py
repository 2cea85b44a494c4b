"""The exponent of a power law is fitted as the textbook has it."""

import numpy as np
import pytest

from benchmarks.growth import fitted_slope


def test_a_power_law_is_fitted_without_error_once_lower_orders_are_left_out():
    sizes = 2.0 ** np.arange(8)
    seconds = np.where(sizes < 16, 16.0**1.5, sizes**1.5)
    slope, error = fitted_slope(np.log2(sizes), np.log2(seconds))
    assert slope == pytest.approx(1.5)
    assert error == pytest.approx(0, abs=1e-12)


def test_the_standard_error_is_that_of_the_textbook():
    slope, error = fitted_slope(np.array([0.0, 1.0, 2.0]), np.array([0.0, 3.0, 4.0]))
    # Residuals 1/3 · (-1, 2, -1), one degree of freedom, Σ(x - mean)² = 2.
    assert (slope, error) == pytest.approx((2, (6 / 9 / 2) ** 0.5))
