"""The interval of an estimated survival, held against what three samples in two directions make by hand.

Of three rows of one feature a batch normalization blocks the direction of equal rows and that of ŷ. A sample
`G_s = a_s blocked + b_s passing`, with unit vectors, has the products `a_s a_t + b_s b_t` with the others on one side
and `b_s b_t` on the other.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.derivatives import TERM_PARTS
from bnjax.derivatives.terms import Terms
from bnjax.estimated_parts import with_intervals
from bnjax.normalizers import batch_norm
from bnjax.parts import carry_back
from bnjax.problem import pose

X = jnp.array([[-1.0], [0.0], [1.0]])
BLOCKED, PASSING = np.array([1.0, 1.0, 1.0]) / 3**0.5, np.array([1.0, -2.0, 1.0]) / 6**0.5
PROBLEM = pose(lambda row: jnp.sum(row**2), batch_norm(epsilon=0.0, affine=False), X)
TOTAL = TERM_PARTS.index(("diagonal", "total"))
QUANTILE = 4.302652729911275  # Student's, of 2 degrees of freedom, at 0.975.


@jax.jit
def parts(samples, rounding):
    """Return all parts, of three samples of the diagonal's total."""
    count = len(TERM_PARTS)
    split = Terms(
        values=jnp.zeros(count),
        gradients=jnp.zeros((count, 3, 1)),
        rounding=jnp.full(count, rounding),
        center_losses=jnp.zeros(3),
        losses=jnp.zeros(3),
        loss_gradient=jnp.zeros((3, 1)),
        diagonal_samples=jnp.stack([samples[..., None], jnp.zeros((3, 3, 1))]),
    )
    stacked = carry_back(PROBLEM, split.values, split.gradients, split.rounding)
    return with_intervals(PROBLEM, stacked, split, split.rounding)


def found(blocked, passing, rounding: float = 0.0) -> dict[str, Any]:
    """Return the numbers of the diagonal's total, of three samples."""
    of_all = parts(np.outer(blocked, BLOCKED) + np.outer(passing, PASSING), rounding)
    numbers = {
        "survival": of_all.survival,
        "norm": of_all.gradient_norm_output,
        "interval": of_all.survival_interval,
    }
    return {name: np.asarray(number)[TOTAL] for name, number in numbers.items()}


def test_norm_survival_and_interval_are_those_of_the_jackknife_by_hand():
    one, other, third = blocked = (0.1, 0.2, 0.3)
    products = np.array([other * third, one * third, one * other])  # Of the pairs that leave out each sample.
    before = 1 + products.mean()
    numbers = found(blocked, np.ones(3))
    np.testing.assert_allclose(numbers["norm"], before**0.5, rtol=1e-12)
    np.testing.assert_allclose(numbers["survival"], before**-0.5, rtol=1e-12)
    # What the ratio 1 / before leaves of 1 - products / before, with (k - 1) / k = 2 / 3.
    deviation = (2 / 3 * np.sum((products - products.mean()) ** 2)) ** 0.5 / before**2
    ends = np.sqrt(1 / before + QUANTILE * deviation * np.array([-1, 1]))
    np.testing.assert_allclose(numbers["interval"], ends, rtol=1e-10)


@pytest.mark.parametrize("factor", [1 - 1e-6, 1 + 1e-6])
def test_a_norm_is_told_from_zero_from_as_many_of_its_deviations_on_as_student_says(factor):
    # The samples 1 ∓ d and 1 leave out pairs of 1 + d, 1 - d² and 1 - d: mean 1 - d² / 3.
    def margin(d):
        pairs = np.array([1 + d, 1 - d**2, 1 - d])
        return pairs.mean() - QUANTILE * (2 / 3 * np.sum((pairs - pairs.mean()) ** 2)) ** 0.5

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if margin(middle) > 0 else (low, middle)
    d = low * factor
    numbers = found(np.zeros(3), (1 - d, 1.0, 1 + d))
    assert np.isnan(numbers["survival"]) == (factor > 1)
    if factor > 1:
        np.testing.assert_array_equal(numbers["interval"], [0, np.inf])


def test_samples_up_to_rounding_in_their_root_mean_square_are_zero_and_have_no_interval():
    blocked = (0.1, 0.2, 0.3)
    size = float(1 + np.mean(np.square(blocked))) ** 0.5
    assert found(blocked, np.ones(3))["norm"] < size * (1 - 1e-9)
    above, below = (found(blocked, np.ones(3), size * factor) for factor in (1 - 1e-9, 1 + 1e-9))
    assert np.isfinite([above["survival"], *above["interval"]]).all()
    assert np.isnan([below["survival"], *below["interval"]]).all()


def test_a_norm_that_is_estimated_below_zero_is_zero_and_its_survival_unknown():
    numbers = found((1.0, -1.0, 0.0), np.zeros(3))
    assert numbers["norm"] == 0
    assert np.isnan(numbers["survival"])
    np.testing.assert_array_equal(numbers["interval"], [0, np.inf])
