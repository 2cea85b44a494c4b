"""Who writes into this folder? One process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_FILE = ".lock"


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Hold a folder until the block ends, and make it if it is missing; who is killed holds nothing any more.

    Raises:
        BlockingIOError: another run holds the folder.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / LOCK_FILE
    try:
        held = FileLock(file).acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(
            f"{directory} is being written by another run; wait until that ends, or give another folder"
        ) from None
    with held:
        try:
            yield
        finally:
            file.unlink(missing_ok=True)  # Before it is released: another run may have it afterwards.
