"""The one comparison of the tests; its tolerance follows from dtype and order of derivative."""

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike


def assert_close(actual: ArrayLike, expected: ArrayLike, *, order: int = 0, scale: float | None = None) -> None:
    """Assert that two arrays agree to the rounding of their dtype.

    The largest error may be 100 · 10^order · ε · scale, with ε of the less precise of the two dtypes: a
    factor of 100 for sums and another of 10 for each derivative taken. float64: 2e-14 for values, 2e-13 for
    gradients, …

    Args:
        actual: what the code under test gives.
        expected: what it should give.
        order: the order of the derivative.
        scale: the size of what was added up to get here; the largest expected magnitude if None, 1 if that is
            0.
    """
    __tracebackhide__ = True
    found, wanted = np.asarray(actual), np.asarray(expected)
    assert found.shape == wanted.shape, f"the shape is {found.shape}, expected {wanted.shape}"
    assert np.isfinite(wanted).all(), "the expected values are not finite"
    epsilon = max(_epsilon(array.dtype) for array in (found, wanted))
    found, wanted = (array.astype(np.result_type(array, np.float64)) for array in (found, wanted))
    if not found.size:
        return
    largest = float(np.max(np.abs(wanted)))
    size = scale if scale is not None else largest or 1.0
    tolerance = 100 * 10**order * epsilon * size
    errors = np.nan_to_num(np.abs(found - wanted), nan=np.inf)
    if np.max(errors) > tolerance:
        worst = tuple(int(index) for index in np.unravel_index(np.argmax(errors), errors.shape))
        raise AssertionError(
            f"{np.sum(errors > tolerance)} of {errors.size} entries differ; the worst is at {worst}: "
            f"{found[worst]!r}, expected {wanted[worst]!r}; its error {errors[worst]:.3g} is "
            f"{errors[worst] / tolerance:.3g} times the tolerance {tolerance:.3g} "
            f"(order {order}, scale {size:.3g}, largest expected {largest:.3g})"
        )


def _epsilon(dtype: np.dtype) -> float:
    return float(jnp.finfo(dtype if jnp.issubdtype(dtype, jnp.inexact) else float).eps)
