"""Which counts does a measurement of curvature take? Integers only."""

from typing import Any

from bnjax.normalizers.checks import is_integer


def check_integers(**counts: Any) -> None:
    """Raise TypeError unless all of the options, given by their names, are integers."""
    for name, value in counts.items():
        if not is_integer(value):
            raise TypeError(f"{name} needs to be an integer, got {value!r}")
