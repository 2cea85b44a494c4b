"""What may run at the same time?"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from experiments.common.progress import progress

Result = TypeVar("Result")


def call_in_threads(tasks: Sequence[Callable[[], Result]], description: str, *, devices: int) -> list[Result]:
    """Return what the tasks return, in order, with a thread for each core and a progress bar.

    Most of an experiment's time is compilation, which leaves Python's lock alone.
    """
    with ThreadPoolExecutor(threads_on(devices)) as pool:
        return list(progress(pool.map(lambda task: task(), tasks), description, total=len(tasks)))


def threads_on(devices: int) -> int | None:
    """Return how many threads may compute: one for each core, but on several devices one alone.

    Two programs that start there in different orders would wait for one another.
    """
    return os.cpu_count() if devices == 1 else 1
