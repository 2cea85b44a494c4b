"""What are value, gradient and Hessian of a head at one row, and how does one multiply by that Hessian?"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnjax.derivatives.heads import LogitsHead
from bnjax.derivatives.low_rank import LowRankHessian, low_rank_hessian
from bnjax.derivatives.piecewise_linear import is_piecewise_linear


class Expansion(NamedTuple):
    """Value, gradient and dense Hessian of a head at one row.

    Attributes:
        value: ℓ(c), a scalar.
        gradient: ∂ℓ/∂y at c, in the shape of the row.
        hessian: ∂²ℓ/∂y∂y at c, of shape (*row, *row).
    """

    value: Float[Array, ""]
    gradient: Float[Array, "..."]
    hessian: Float[Array, "..."]


def expand(head: Callable[..., Array], point: Float[Array, "..."], *row_arguments: Any) -> Expansion:
    """Return value, gradient and dense Hessian of `head` at one row; vmap it over rows.

    Memory D² a row; `hessian_at` is the form for long rows.
    """
    value, gradient = jax.value_and_grad(head)(point, *row_arguments)
    return Expansion(value, gradient, jax.hessian(head)(point, *row_arguments))


class ColumnHessian(NamedTuple):
    """The Hessian of any head at one row, as its products with vectors.

    Attributes:
        product: `vector -> H vector`, both in the shape of the row.
        point: the row that the Hessian belongs to.
        chunk: how many columns are worked on at once.
    """

    product: Callable[[Array], Array]
    point: Float[Array, "..."]
    chunk: int

    def diagonal(self) -> Float[Array, "..."]:
        """Return `h_dd`, in the shape of a row: D products, `chunk` at a time."""

        def entry(coordinate: Array) -> Array:
            column = jnp.zeros_like(self.point).ravel().at[coordinate].set(1.0)
            return self.product(column.reshape(self.point.shape)).ravel()[coordinate]

        entries = jax.lax.map(entry, jnp.arange(self.point.size), batch_size=self.chunk)
        return entries.reshape(self.point.shape)


def hessian_at(
    head: Callable[..., Array], point: Float[Array, "..."], *row_arguments: Any, chunk: int = 64
) -> LowRankHessian | ColumnHessian:
    """Return the exact Hessian of `head` at one row, with the methods `diagonal()` and `product(vector)`.

    The low-rank form for a `LogitsHead` whose logits are piecewise linear, columns of Hessian–vector products for any
    other head. The point is linearized once for all products.

    Args:
        head: `head(row, *row_arguments) -> scalar`.
        point: the row c.
        *row_arguments: what else the head takes.
        chunk: columns at once in `diagonal()`; its memory is `chunk` times that of a gradient.
    """
    if isinstance(head, LogitsHead) and is_piecewise_linear(head.of_row(*row_arguments)[0], point):
        return low_rank_hessian(head, point, *row_arguments)
    _, product = jax.linearize(lambda row: jax.grad(head)(row, *row_arguments), point)
    return ColumnHessian(product, point, chunk)
