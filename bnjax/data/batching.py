"""Which rows make a batch? Random ones, or rows of a single class; both follow from the seed alone."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from bnjax.integers import check_integers


class Batches(NamedTuple):
    """The batches of one epoch.

    Attributes:
        indices: the rows of every batch, (steps, batch_size).
        dropped: how many rows are in no batch of this epoch.
    """

    indices: Int[np.ndarray, "steps batch_size"]
    dropped: int


def random_batches(
    labels: Shaped[np.ndarray, "n ..."], batch_size: int, generator: np.random.Generator, *, remainder: str = "drop"
) -> Batches:
    """Return all rows once, in random order.

    Args:
        labels: the labels of all rows; only their number counts.
        batch_size: rows of a batch.
        generator: where the order comes from.
        remainder: what to do with the rows that do not fill a batch: `drop` them, or `wrap` the last batch around to
            the first rows of the epoch.

    Raises:
        TypeError: a batch size that is no integer.
        ValueError: fewer rows than a batch holds and `remainder="drop"`, no labels, or an option that there is not.
    """
    if not len(labels):
        raise ValueError("there needs to be at least one row, got none")
    rows = _whole_batches(generator.permutation(len(labels)), batch_size, remainder, "the data")
    return Batches(rows, _dropped(labels, rows))


def single_class_batches(
    labels: Int[np.ndarray, " n"], batch_size: int, generator: np.random.Generator, *, remainder: str = "drop"
) -> Batches:
    """Return batches of one class each, in the order 0, 1, 2, …, 0, 1, 2, … of classes that still have batches left.

    Within a class the rows are in random order. Arguments and errors as in `random_batches`; what is dropped or wrapped
    is counted class by class.
    """
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"labels need to be one number for each of at least one row, got shape {labels.shape}")
    of_class = [
        _whole_batches(generator.permutation(np.flatnonzero(labels == label)), batch_size, remainder, f"class {label}")
        for label in np.unique(labels)
    ]
    longest = max(len(batches) for batches in of_class)
    rows = np.stack([batches[turn] for turn in range(longest) for batches in of_class if turn < len(batches)])
    return Batches(rows, _dropped(labels, rows))


def _whole_batches(order: np.ndarray, batch_size: int, remainder: str, what: str) -> np.ndarray:
    check_integers(batch_size=batch_size)
    if batch_size < 1:
        raise ValueError(f"batch_size needs to be >= 1, got {batch_size}")
    if remainder not in ("drop", "wrap"):
        raise ValueError(f"remainder needs to be 'drop' or 'wrap', got {remainder!r}")
    if remainder == "wrap":
        order = np.resize(order, -(-len(order) // batch_size) * batch_size)
    elif len(order) < batch_size:
        raise ValueError(
            f"a batch needs {batch_size} rows, but {what} has {len(order)}; take a smaller batch size or, in Python, "
            "an order that wraps around, functools.partial(order, remainder='wrap')"
        )
    return order[: len(order) // batch_size * batch_size].reshape(-1, batch_size)


def _dropped(labels: np.ndarray, rows: np.ndarray) -> int:
    return len(labels) - len(np.unique(rows))
