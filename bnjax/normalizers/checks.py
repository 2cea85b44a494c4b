"""Which features does a normalizer take? Each check says what was required, what came and what to do."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Int

from bnjax.normalizers.moments import statistics_dtype


def is_concrete(x: Array) -> bool:
    """Return whether the values of `x` can be looked at (they can't while JAX traces a function)."""
    return not isinstance(x, Tracer)


def check_numbers(options: Mapping[str, Any], name: str) -> None:
    """Raise unless a normalizer's options are numbers, and new running statistics lie between the old and the batch's.

    Raises:
        TypeError: one that is no float.
        ValueError: a `momentum` that is not from 0 to 1.
    """
    for option, number in options.items():
        if not isinstance(number, float):
            raise TypeError(f"{name} needs a number for {option}, got {number!r}")
        if option == "momentum" and not 0 <= number <= 1:
            raise ValueError(f"{name} needs a momentum from 0 (the last batch's statistics) to 1, got {number!r}")


def first_true(flags: Bool[Array, "..."]) -> Int[Array, ""]:
    """Return at which place of the flattened flags the first is true, -1 if none is.

    One number can be looked at also where the rows lie on several processes, each of which sees its own alone.
    """
    return jnp.where(jnp.any(flags), jnp.argmax(flags), -1)


def check_features(x: Array, feature_axis: int, name: str) -> None:
    """Raise unless `x` holds rows of finite real floating-point features.

    Raises:
        TypeError: `x` is not of a real floating-point dtype.
        ValueError: fewer than two axes, a feature axis that is not there, or a NaN or infinite value.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"{name} needs real floating-point features, got dtype {x.dtype}; convert integers with "
            "x.astype(jnp.float32), split complex numbers into two features"
        )
    if x.ndim < 2:
        raise ValueError(f"{name} needs features of shape (rows, ..., features), got shape {x.shape}")
    if not -x.ndim <= feature_axis < x.ndim or feature_axis % x.ndim == 0:
        raise ValueError(
            f"{name} has feature_axis={feature_axis}, but x of shape {x.shape} has its rows on axis 0 and features "
            f"on one of the axes 1 to {x.ndim - 1}"
        )
    if 0 in x.shape:
        raise ValueError(f"{name} needs at least one row and one feature, got shape {x.shape}")
    if is_concrete(x) and not np.isfinite(_largest(x)):
        place = int(first_true(~jnp.isfinite(x)))
        raise ValueError(
            f"{name} needs finite features, got {float(x.ravel()[place])} at x{_place(place, x.shape)}; look for it "
            "upstream, or drop the row"
        )


def check_group_size(entries: int, group: str, name: str, *, remedy: str) -> None:
    """Raise ValueError unless the statistics of a group run over at least two entries."""
    if entries < 2:
        raise ValueError(
            f"{name} needs at least 2 values for each {group}, got {entries}: one value has no variance; {remedy}; if "
            "a head calls it for single rows, that head mixes rows and has no expansion row by row"
        )


def check_squares(x: Array, name: str) -> None:
    """Raise ValueError unless the features are small enough for the square of their sum to be finite."""
    limit = float(jnp.finfo(statistics_dtype(x.dtype)).max) ** 0.5 / x.size
    largest = float(_largest(x))
    if largest > limit:
        raise ValueError(
            f"{name} needs features up to {limit:.1e}, so that the square of their sum is finite in "
            f"{statistics_dtype(x.dtype)}, got {largest:.1e}; rescale x"
        )


def check_varies(still: int, shape: tuple[int, ...], name: str) -> None:
    """Raise ValueError if a feature does not vary: place `still` of the flattened features, -1 for none."""
    if still >= 0:
        raise ValueError(
            f"{name} with epsilon=0 needs features that vary, but the group of x{_place(still, shape)} has zero "
            "variance to rounding; drop that feature or use epsilon > 0"
        )


@jax.jit
def _largest(x: Array) -> Array:
    return jnp.max(jnp.abs(x))  # NaN where one entry is.


def _place(index: int, shape: tuple[int, ...]) -> list[int]:
    return [int(i) for i in np.unravel_index(index, shape)]
