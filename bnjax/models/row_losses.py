"""What is the loss of each row of a model's outputs? That of one row, mapped, or what does not fit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnjax.row_arguments import check_row_arguments


def row_losses(loss: Callable[..., Array], outputs: Any, row_arguments: tuple) -> Float[Array, " n"]:
    """Return the losses of the rows.

    Args:
        loss: `loss(output_row, *row_arguments_i) -> scalar`, of one row.
        outputs: what a model returns, with one entry a row.
        row_arguments: further arguments of the loss, with one entry a row.

    Raises:
        ValueError: row arguments of another number of rows; a loss that can't be called with one row, or is not one
            scalar there.
    """
    rows = len(jax.tree.leaves(outputs)[0])
    check_row_arguments(row_arguments, rows)
    call = f"loss({', '.join(map(_entry, (outputs, *row_arguments)))})"
    remedy = "write the loss of one row, without a sum or mean over the batch"
    try:
        losses = jax.vmap(loss)(outputs, *row_arguments)
    except Exception as error:
        raise ValueError(
            f"the loss is called with one row of the model's outputs and of each row argument, {call}: {error}; "
            f"{remedy}, and let it pick what it needs of several outputs"
        ) from error
    if jnp.shape(losses) != (rows,):
        got = [jnp.shape(leaf)[1:] for leaf in jax.tree.leaves(losses)]
        raise ValueError(f"the loss of one row, {call}, needs to be one scalar, got shapes {got}; {remedy}")
    return losses


def _entry(batch: Any) -> str:
    """Return the kind of one entry of arrays of rows, such as `float32[3]`."""

    def kind(leaf: Any) -> str:
        return f"{jnp.result_type(leaf)}[{','.join(map(str, jnp.shape(leaf)[1:]))}]"

    return str(jax.tree.map(kind, batch)).replace("'", "")
