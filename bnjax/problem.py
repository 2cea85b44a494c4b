"""What is asked of a batch? A loss, a normalizer and features, checked once and passed on as one value."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from bnjax.derivatives.heads import LogitsHead, as_pytree
from bnjax.derivatives.terms import RowHeads
from bnjax.devices import automatic
from bnjax.integers import is_integer
from bnjax.normalizers.checks import first_true, is_concrete
from bnjax.normalizers.moments import statistics_dtype
from bnjax.normalizers.normalizer import Normalizer, Params, Standardized, Stats
from bnjax.row_arguments import check_row_arguments

# Parameters or statistics of a normalizer as they are passed in: jax or numpy arrays by name.
State = Mapping[str, ArrayLike]

# Statistics that are of squares or sizes.
SPREADS = ("variance", "spread")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problem:
    """A batch of features before a normalizer, and the loss of each row after it; a pytree.

    Attributes:
        loss: `loss(y_row, *row_arguments_i) -> scalar`, as a pytree.
        x: X, of shape (n, *row).
        row_arguments: further arguments of the loss, one entry a row.
        params: parameters of the normalizer.
        stats: statistics of the normalizer.
        key: the key of its noise, or None.
        center: the expansion point c in standardized coordinates, in the shape of a row.
        normalizer: the normalizer.
    """

    loss: Callable[..., Array]
    x: Float[Array, "n ..."]
    row_arguments: tuple
    params: Params
    stats: Stats
    key: Array | None
    center: Float[Array, "..."]
    normalizer: Normalizer = field(metadata={"static": True})

    @property
    def feature_axis(self) -> int:
        """The axis of the features, negative, so that it is the same in a batch and in a row."""
        return self.normalizer.feature_axis % self.x.ndim - self.x.ndim

    def standardized(self, x: Array) -> Standardized:
        """Return `Ŷ` and the scale of the normalizer in batch mode, as a function of the features."""
        return self.normalizer.standardize(self.stats, x, mode="batch", key=self.key)[0]

    def standardization(self, x: Array) -> Array:
        """Return `Ŷ` alone."""
        return self.standardized(x).values

    def row_heads(self) -> RowHeads:
        """Return the loss of each row as a function of its standardized features."""
        slope, offset = self.normalizer.affine(self.params, self.x, mode="batch", key=self.key)
        return RowHeads(self.loss, slope, offset, self.row_arguments)


def pose(
    loss: Callable[..., Array],
    normalizer: Normalizer,
    x: ArrayLike,
    *row_arguments: Any,
    params: State | None = None,
    stats: State | None = None,
    key: Array | None = None,
    expansion_point: ArrayLike = 0.0,
) -> Problem:
    """Check the arguments of the public calls and gather them.

    What `None` stands for is `normalizer.init(x)`. Values are checked only where they are known, not under an outer
    `jax.jit` or `jax.grad`.

    Raises:
        TypeError: features or loss that are not real floating-point numbers, a loss that does not take the given row
            arguments, and what is no function or normalizer at all.
        ValueError: shapes that do not fit together, a loss that is not a scalar, NaN or infinite features, and what
            the normalizer refuses.
    """
    if not isinstance(normalizer, Normalizer):
        raise TypeError(f"normalizer needs to be one that was made, such as batch_norm(), got {normalizer!r}")
    x = as_array(x, "x")
    normalizer.check(x)
    initial_params, initial_stats = normalizer.init(x)
    params = _with_keys_of(initial_params, params, "params", normalizer.name)
    stats = _with_keys_of(initial_stats, stats, "stats", normalizer.name)
    row_arguments = as_row_arguments(row_arguments, len(x))
    check_signature(loss, len(row_arguments))
    center = _center(expansion_point, x)
    problem = Problem(
        jax.tree.map(automatic, as_pytree(loss)), x, row_arguments, params, stats, automatic(key), center, normalizer
    )
    _check_loss(problem)
    return problem


@jax.jit
def standardize(problem: Problem) -> Float[Array, "n ..."]:
    """Return the standardized features `Ŷ` of the problem's own batch, compiled."""
    return problem.standardization(problem.x)


def as_array(value: Any, what: str) -> Array:
    """Return a value as an array; TypeError where it is none, naming it as `what`."""
    try:
        if value is None or np.ma.isMaskedArray(value):
            raise TypeError("there is no array of numbers in it")
        return automatic(jnp.asarray(value))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} needs to be an array of numbers, got {type(value).__name__}: {error}") from None


def as_row_arguments(row_arguments: tuple, rows: int) -> tuple:
    """Return the further arguments of a loss as arrays; TypeError or ValueError unless they have one entry a row."""
    arrays = tuple(
        jax.tree.map(partial(as_array, what=f"row argument {index}"), argument, is_leaf=lambda leaf: leaf is None)
        for index, argument in enumerate(row_arguments)
    )
    check_row_arguments(arrays, rows)
    return arrays


def check_signature(loss: Callable[..., Array], count: int) -> None:
    """Raise TypeError unless the loss is a function of a row and so many row arguments."""
    if not callable(loss):
        raise TypeError(f"the loss needs to be a function loss(y_row, ...), got {loss!r}")
    try:
        inner, context = (loss.outer, loss.context) if isinstance(loss, LogitsHead) else (loss, 0)
        signature = inspect.signature(inner)
    except ValueError:  # Some built-in functions do not tell.
        return
    try:
        signature.bind(*[None] * (1 + count - context))
    except TypeError as error:
        raise TypeError(
            f"the loss needs to take a row and the {count} row arguments that were passed, but of its arguments "
            f"({', '.join(signature.parameters)}): {error}; pass after x what it needs, one entry a row"
        ) from error


def check_at_least_one(name: str, value: int) -> None:
    """Raise ValueError unless an option is an integer from 1 on."""
    if not is_integer(value) or value < 1:
        raise ValueError(f"{name} needs to be an integer >= 1, got {value!r}")


def check_chunks(chunk: int, row_chunk: int | None) -> None:
    """Raise ValueError unless both are integers from 1 on, the chunk of rows possibly None."""
    check_at_least_one("chunk", chunk)
    if row_chunk is not None:
        check_at_least_one("row_chunk", row_chunk)


def check_finite(
    losses: Float[Array, " n"], center_losses: Float[Array, " n"], gradients: Float[Array, "p n ..."]
) -> None:
    """Raise ValueError naming the first row whose loss or gradients are not finite, where values are known."""
    if not is_concrete(losses):
        return
    row, of_gradients, loss, center_loss = _first_not_finite(losses, center_losses, gradients)
    if row >= 0:
        raise ValueError(
            f"the loss needs to be finite at every row and at the expansion point, got {float(loss)} and "
            f"{float(center_loss)} for row {int(row)}; check its further arguments (labels in range?) and the "
            "expansion point"
        )
    if of_gradients >= 0:
        raise ValueError(
            f"the loss needs finite derivatives at every row and at the expansion point, got others for row "
            f"{int(of_gradients)}; choose another expansion_point (a root or a norm has none at 0)"
        )


@jax.jit
def _first_not_finite(losses: Array, center_losses: Array, gradients: Array) -> tuple[Array, Array, Array, Array]:
    """Return the first row whose losses are not finite and the first whose gradients are not, and the losses there."""
    row = first_true(~(jnp.isfinite(losses) & jnp.isfinite(center_losses)))
    of_gradients = first_true(~jnp.isfinite(gradients).all(axis=(0, *range(2, gradients.ndim))))
    return row, of_gradients, losses[row], center_losses[row]


def _with_keys_of(initial: dict[str, Array], given: State | None, what: str, name: str) -> dict[str, Array]:
    if given is None:
        return initial
    if not isinstance(given, Mapping) or set(given) != set(initial):
        got = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
        raise ValueError(f"{what} of {name} needs a dict with entries {sorted(initial)}, got {got}; see its init(x)")
    arrays = {key: as_array(value, f"{what}[{key!r}]") for key, value in given.items()}
    for key, value in arrays.items():
        if is_concrete(value) and not (np.isfinite(value).all() and (key not in SPREADS or np.all(value >= 0))):
            raise ValueError(
                f"{what}[{key!r}] of {name} needs finite numbers, a variance or spread none below 0, got {value}"
            )
        if value.shape != initial[key].shape:
            raise ValueError(
                f"{what}[{key!r}] of {name} needs shape {initial[key].shape}, got {value.shape}; see its init(x)"
            )
    return arrays


def _center(expansion_point: ArrayLike, x: Array) -> Array:
    center, row = as_array(expansion_point, "expansion_point"), x.shape[1:]
    if jnp.iscomplexobj(center):
        raise TypeError(f"expansion_point needs real coordinates, got dtype {center.dtype}")
    fits = center.ndim <= len(row) and all(
        own in (1, wanted) for own, wanted in zip(center.shape[::-1], row[::-1], strict=False)
    )
    if not fits:
        raise ValueError(f"expansion_point needs a shape that broadcasts to a row {row}, got {center.shape}")
    if is_concrete(center) and not np.isfinite(np.asarray(center)).all():
        raise ValueError(f"expansion_point needs finite coordinates, got {center}")
    return jnp.broadcast_to(center.astype(statistics_dtype(x.dtype)), row)


# Compiled so that its shapes are found once; it is never run.
@jax.jit
def _row_losses(problem: Problem) -> Array:
    heads = problem.row_heads()
    return heads.map_rows(lambda head, row, *rest: head(row, *rest), problem.standardization(problem.x))


def _check_loss(problem: Problem) -> None:
    shape = jax.eval_shape(_row_losses, problem)
    if getattr(shape, "shape", None) != problem.x.shape[:1]:
        got = [leaf.shape[1:] for leaf in jax.tree.leaves(shape)]
        raise ValueError(
            f"the loss of one row needs to be one scalar, got shape {got[0] if len(got) == 1 else got}; reduce it"
        )
    if not jnp.issubdtype(shape.dtype, jnp.floating):
        raise TypeError(f"the loss needs to be a real floating-point number, got dtype {shape.dtype}; convert it")
