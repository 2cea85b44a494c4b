"""How much memory does a call need? Its peak in a fresh process, above what that held before the call."""

import gc
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# Of glibc: freed blocks go back to the system at once, so that none of an earlier call are counted, or hide a peak.
EAGER = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def peak_memory_mib(build: Callable[[], Callable[[], Any]]) -> float | None:
    """Return by how many MiB the resident size of a fresh process rises at most during `build()()`.

    The process imports and builds, makes the call once to warm up (what is compiled then is not counted) and drops its
    result; measured is the second call, its result included. None where the system does not tell (it is Linux's
    `VmHWM`, which unlike `ru_maxrss` can be reset).

    Args:
        build: makes the call; it can be pickled.
    """
    if not RESET.exists():
        return None
    context = multiprocessing.get_context("spawn")
    with patch.dict(os.environ, EAGER), ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_peak, build).result()


def _peak(build: Callable[[], Callable[[], Any]]) -> float:
    call = build()
    call()
    gc.collect()
    RESET.write_text("5")
    before = _resident_mib("VmRSS")
    call()
    return _resident_mib("VmHWM") - before


def _resident_mib(field: str) -> float:
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[field].split()[0]) / 1024
