"""Which options are integers? One rule for all of the library."""

from typing import Any

import numpy as np


def is_integer(value: Any) -> bool:
    """Return whether a value is an integer, Python's or NumPy's; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_integers(**options: Any) -> None:
    """Raise TypeError unless all of the options, given by their names, are integers."""
    for name, value in options.items():
        if not is_integer(value):
            raise TypeError(f"{name} needs to be an integer, got {value!r}")
