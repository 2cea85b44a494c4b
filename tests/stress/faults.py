"""What if the n-th thing that is done to a folder fails?"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any


@dataclass
class Fault:
    """An error at the n-th event in a folder, such as opening or renaming a file; `left` is 0 once it was raised."""

    folder: Path
    left: int
    error: BaseException


_armed: list[Fault] = []


@contextmanager
def fault(folder: Path, number: int, error: BaseException) -> Iterator[Fault]:
    """Raise an error in place of an event in a folder, counted from 1, as Python's audit hooks tell of them."""
    _armed.append(Fault(folder, number, error))
    try:
        yield _armed[0]
    finally:
        _armed.clear()


def _hook(_: str, arguments: tuple[Any, ...]) -> None:
    """Do nothing unless a fault is set, for an audit hook stays; signals arrive in the main thread only."""
    if not _armed or not _armed[0].left or threading.current_thread() is not threading.main_thread():
        return
    paths = [str(argument) for argument in arguments if isinstance(argument, str | PathLike)]
    if any(path.startswith(str(_armed[0].folder)) for path in paths):
        _armed[0].left -= 1
        if not _armed[0].left:
            raise _armed[0].error


sys.addaudithook(_hook)
