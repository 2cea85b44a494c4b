"""What follows the standardization: a loss of one row, and the form of it that shows its logits.

A *head* is any `head(row, *row_arguments) -> scalar`. A black-box head hides that its curvature has rank 10; a
`LogitsHead` shows it, and `low_rank` makes use of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

Head = Callable[..., Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LogitsHead:
    """The head `outer(logits(row, *context), *further)`, where context and further are the row arguments.

    Attributes:
        logits: `logits(row, *context) -> (k,)`, all of the network after the normalizer; a scalar, or an array of
            another shape, if that is what `outer` takes.
        outer: `outer(logits, *further) -> scalar`, the loss of the logits.
        context: how many of the row arguments, from the first on, go to the logits: what else reaches the network
            behind the normalizer, such as a residual connection around it.
    """

    logits: Callable[..., Array]
    outer: Callable[..., Array]
    context: int = field(default=0, metadata={"static": True})

    def __call__(self, row: Array, *row_arguments: Any) -> Array:
        """Return the loss of one row."""
        logits, outer = self.of_row(*row_arguments)
        return outer(logits(row))

    def of_row(self, *row_arguments: Any) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
        """Return `logits(row)` and `outer(logits)` with the row arguments given."""
        context, further = row_arguments[: self.context], row_arguments[self.context :]
        return lambda row: _one_array(self.logits(row, *context)), lambda logits: self.outer(logits, *further)


def logits_head(logits_function: Callable[..., Array], outer: Callable[..., Array]) -> LogitsHead:
    """Return the head `outer(logits_function(row), *row_arguments)` with its logits shown.

    The logits are one array, (k,) or a scalar as of a binary head; others raise TypeError on use.

    Each function may be a `jax.tree_util.Partial`: the arrays in it are then arguments of the compiled function, so
    that new weights do not compile it anew.
    """
    return LogitsHead(as_pytree(logits_function), as_pytree(outer))


def cross_entropy_head(logits_function: Callable[..., Array]) -> LogitsHead:
    """Return the head `(row, label) -> -log softmax(logits_function(row))[label]`, in nats.

    Args:
        logits_function: `(row) -> (k,)`; `(y, label) -> loss` follows from it. Where it is piecewise linear (ReLU, max,
            convolution, average pooling, …) the derivatives take the exact low-rank path.
    """
    return logits_head(logits_function, softmax_cross_entropy)


def softmax_cross_entropy(logits: Array, label: Array) -> Float[Array, ""]:
    """Return `-log softmax(logits)[label]`; NaN for a label that is not one of 0 … k - 1.

    Raises:
        TypeError: a label that is no integer.
        ValueError: logits or a label of another shape.
    """
    if jnp.ndim(logits) != 1:
        raise ValueError(f"the logits of one row need the shape (k,), got {jnp.shape(logits)}; ravel them")
    if not jnp.issubdtype(jnp.result_type(label), jnp.integer):
        raise TypeError(f"labels need to be integers from 0 to {len(logits) - 1}, got dtype {jnp.result_type(label)}")
    if jnp.ndim(label) != 0:
        raise ValueError(
            f"labels need one integer a row, got entries of shape {jnp.shape(label)}; of one-hot labels take the argmax"
        )
    inside = (label >= 0) & (label < logits.shape[-1])
    return jnp.where(inside, -jax.nn.log_softmax(logits)[label], jnp.nan)


def _one_array(logits: Any) -> Any:
    """Return the logits of one row; TypeError unless they are one array."""
    if not jax.tree_util.all_leaves([logits]):
        raise TypeError(
            f"the logits of one row need to be one array, such as of the shape (k,), got a {type(logits).__name__}; "
            "ravel and concatenate them"
        )
    return logits


def as_pytree(function: Callable[..., Array]) -> Callable[..., Array]:
    """Return `function` as a pytree, to be passed into compiled functions as an argument."""
    if not callable(function):
        raise TypeError(f"a head is made of functions, got {function!r}")
    is_pytree = isinstance(function, LogitsHead | Partial)
    return function if is_pytree else Partial(function)


def behind_affine(head: Callable[..., Array], slope: Array, offset: Array) -> Callable[..., Array]:
    """Return the head as a function of the standardized row, `row ↦ head(slope · row + offset, …)`."""
    if isinstance(head, LogitsHead):
        return LogitsHead(lambda row, *context: head.logits(slope * row + offset, *context), head.outer, head.context)
    return lambda row, *row_arguments: head(slope * row + offset, *row_arguments)
