"""What differs anywhere, or is no number, is no agreement."""

import numpy as np
import pytest

from benchmarks import convolutions
from benchmarks.agreement import largest_difference

ONES = np.ones((2, 3), np.float32)


def test_the_difference_is_that_of_the_output_that_differs_most_relative_to_its_largest_entry():
    expected = [4 * ONES, np.array([[-8.0, 2.0]])]
    assert largest_difference(expected, expected) == 0
    assert largest_difference([4 * ONES + 1, np.array([[-8.0, 6.0]])], expected) == 0.5


@pytest.mark.parametrize("place", range(3))
def test_a_nan_in_any_output_is_a_disagreement(place):
    found = [ONES.copy() for _ in range(3)]
    found[place][0, 1] = np.nan
    for outputs in ((found, [ONES] * 3), ([ONES] * 3, found)):
        difference = largest_difference(*outputs)
        row = {"case": "a convolution", "form": "winograd", "difference": difference}
        assert convolutions.failures({"table": [row]}) == [
            "a convolution: winograd differs by nan of the largest entry"
        ]


def test_outputs_that_are_missing_are_refused():
    with pytest.raises(ValueError, match="argument 2 is longer"):
        largest_difference([ONES], [ONES, ONES])
