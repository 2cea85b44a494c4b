"""Where in code of the user's own did an error come up? Said in one sentence, in place of a traceback."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What code of the user's own calls; its errors are those of the line that called it.
LIBRARIES = {"jax", "jaxlib", "flax", "optax", "numpy", *sys.stdlib_module_names}
PROJECT = {"bnjax", "experiments", "__main__"}


def said(error: BaseException) -> str:
    """Return an error's class and the first line of what it says."""
    return f"{type(error).__name__}: {_first_line(error)}"


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
        text = str(error) if error.__cause__ else f"the model or its loss failed: {_first_line(error)}"
        raise ValueError(f"{text} ({place})") from error


def _first_line(error: BaseException) -> str:
    """Return the first line of what an error says; JAX goes on for many."""
    return str(error).strip().partition("\n")[0]


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
