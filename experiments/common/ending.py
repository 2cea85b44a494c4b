"""How does a command end before its time? As by Ctrl-C where it is told to, and with one line that says why."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let a run that is told to end (SIGTERM) end as by Ctrl-C, with what it has started."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def end_with(status: int, message: str) -> NoReturn:
    """Print a line to stderr, unless nobody reads it, and end.

    Raises:
        SystemExit: with the status.
    """
    with suppress(BrokenPipeError):
        print(message, file=sys.stderr)
    raise SystemExit(status)
