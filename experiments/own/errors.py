"""Where in code of the user's own did an error come up? Said in one sentence, in place of a traceback."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bnjax.reporting.errors import first_line

# What code of the user's own calls; its errors are those of the line that called it.
LIBRARIES = {"jax", "jaxlib", "flax", "optax", "numpy", *sys.stdlib_module_names}
PROJECT = {"bnjax", "experiments", "__main__"}
# What the library tells a Python user to write, and what that is on the command line; the longer ones first.
TYPED = {
    "apply_kwargs={'train': True}": """--call-options '{"train": true}'""",
    "apply_kwargs": "--call-options",
    "statistics='joint'": "--statistics joint",
    "statistics='held'": "--statistics held",
    "expansion_point": "--expansion-point",
}


def as_typed(message: str) -> str:
    """Return a message of the library with what is typed on the command line in place of its Python.

    Example:
        >>> as_typed("audit fewer rows or with statistics='held'")
        'audit fewer rows or with --statistics held'
    """
    for written, typed in TYPED.items():
        message = message.replace(written, typed)
    return message


@contextmanager
def placed() -> Iterator[None]:
    """Raise ValueError in place of an error of any class that code of the user's own raised, and say where.

    The first cause counts: a refusal by the library of a loss that raised an error names the line of that loss.
    """
    try:
        yield
    except Exception as error:
        place = _own_place(error)
        if not place:
            raise
        text = str(error) if error.__cause__ else f"the model or its loss failed: {first_line(error)}"
        raise ValueError(f"{text} ({place})") from error


def _own_place(error: BaseException) -> str:
    """Return class and place of an error in code of the user's own; empty if it was raised in this project."""
    while error.__cause__ is not None:
        error = error.__cause__
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in LIBRARIES:
            code = frame.f_code
            place = f"{type(error).__name__} in {code.co_name}, {Path(code.co_filename).name}:{line}"
            return "" if package in PROJECT else place
    return ""
