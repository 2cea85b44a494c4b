"""What is measured is the memory of one call."""

from functools import partial

import numpy as np
import pytest

from benchmarks.resident_memory import RESET, peak_memory_mib


@pytest.mark.skipif(not RESET.exists(), reason="the system does not tell a process's peak (Linux does)")
def test_the_peak_is_that_of_the_call_alone():
    # What is built is not counted, nor what a call before left behind.
    built = np.ones((4, 2**20))  # 32 MiB
    assert peak_memory_mib(partial(partial, np.repeat, built, 2)) == pytest.approx(64, abs=4)
