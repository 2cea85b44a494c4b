"""How is a file written? Whole or not at all, into a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lend a temporary path that takes the place of `path` if the block succeeds, and vanishes if not.

    The temporary file lies in the same folder, so that the replacement is one atomic step.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file of text in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def require_folder(directory: Path) -> None:
    """Raise NotADirectoryError if a path that is to be a folder, or one above it, is a file."""
    file = next((path for path in (directory, *directory.parents) if path.exists() and not path.is_dir()), None)
    if file:
        raise NotADirectoryError(
            f"{directory} needs to be a folder, made if it is missing, but {file} is a file; give another path"
        )
