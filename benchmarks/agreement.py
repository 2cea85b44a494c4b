"""Do two implementations find the same? The largest difference, which no NaN hides from."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import ArrayLike


def largest_difference(found: Iterable[ArrayLike], expected: Iterable[ArrayLike]) -> float:
    """Return the largest `max |found - expected| / max |expected|` of the arrays; NaN where one holds a NaN.

    Raises:
        ValueError: there are not as many arrays of both, or none.
    """
    pairs = [(np.asarray(one), np.asarray(other)) for one, other in zip(found, expected, strict=True)]
    # Unlike Python's own, NumPy's maximum of numbers and a NaN is NaN, wherever that stands.
    return float(np.max([np.max(np.abs(one - other)) / np.max(np.abs(other)) for one, other in pairs]))
