"""Which Taylor orders of the loss get back through a normalizer?"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from bnjax.compilation import in_full_precision
from bnjax.derivatives.norms import norms
from bnjax.derivatives.orders import order_gradients
from bnjax.derivatives.terms import RowHeads, mean_over_positions
from bnjax.normalizers.normalizer import Normalizer
from bnjax.parts import Part, SplitPart, carry_back, split_part
from bnjax.problem import Problem, State, check_at_least_one, check_finite, pose, standardize
from bnjax.report import batch_line, whole_loss

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class SpectrumReport:
    """What each Taylor order of the summed loss sends back through a normalizer; a pytree.

    Attributes:
        orders: order k ↦ its part, with `.shared` and `.individual`; the orders 1 … max_order.
        remainder: what the orders leave of the loss.
        loss: Σ_i ℓ_i(ŷ_i), a sum over the rows.
        value: Σ_i ℓ_i(c), the order 0.
        total_gradient: ∂L/∂X; the input gradients of orders and remainder add up to it.
        normalizer: the normalizer's name.
    """

    orders: dict[int, SplitPart]
    remainder: Part
    loss: Float[Array, ""]
    value: Float[Array, ""]
    total_gradient: Float[Array, "n ..."]
    normalizer: str = field(metadata={"static": True})

    def to_rows(self) -> list[dict]:
        """Return a flat row for each order and part, and one with order "remainder"."""
        rows = [
            {"normalizer": self.normalizer, "order": order, **row}
            for order, term in self.orders.items()
            for row in term.to_rows()
        ]
        return [
            *rows,
            {"normalizer": self.normalizer, "order": "remainder", "part": "total", **self.remainder.to_row()},
        ]

    def to_dict(self) -> dict:
        """Return the report as plain numbers: the whole loss, and the rows under `table`."""
        return {
            **whole_loss(self.normalizer, self.total_gradient, self.loss, self.value),
            "table": self.to_rows(),
        }

    def __repr__(self) -> str:
        """Return a short description; `print` shows the table."""
        return f"<SpectrumReport of {self.normalizer}: print() it, .orders, .remainder, .to_rows(), .plot()>"

    def __str__(self) -> str:
        """Return the report as a table."""
        from bnjax.reporting.tables import format_table

        return format_table(
            [{name: value for name, value in row.items() if name != "normalizer"} for row in self.to_rows()],
            title=f"What gets back through {self.normalizer}, order by order",
            caption=batch_line(self.total_gradient),
        )

    def plot(self) -> "Figure":
        """Return bars of each order's and the remainder's survival, a matplotlib figure."""
        from bnjax.reporting.figures import survival_bars

        bars = [
            {key: row[key] for key in ("survival", "reason")}
            | {"term": str(row["order"]), "part of the order": row["part"]}
            for row in self.to_rows()
        ]
        return survival_bars(
            bars,
            by="part of the order",
            title=f"What gets back through {self.normalizer}, order by order",
            caption=batch_line(self.total_gradient),
        )


@in_full_precision
def spectrum(
    loss: Callable[..., Array],
    normalizer: Normalizer,
    x: Float[ArrayLike, "n ..."],
    /,
    *row_arguments: Any,
    max_order: int = 6,
    params: State | None = None,
    stats: State | None = None,
    key: Array | None = None,
    expansion_point: ArrayLike = 0.0,
) -> SpectrumReport:
    """Return which orders of `Σ_i loss(y_i, …)` get back through a normalizer in training mode.

    The term of order k is `Σ_i (1/k!) d^k/dt^k ℓ_i(c + tδ_i)` at t = 0, along each row's own direction
    `δ_i = ŷ_i - c` (docs/theory.md, directional orders). Its shared part has the rows' mean derivative tensor in place
    of each row's own, for order 1 averaged over positions too. Order 2 is `diagonal` and `off_diagonal` of `blocking`
    together (its shared diagonal is not averaged over positions here).

    Args:
        loss, normalizer, x, row_arguments, params, stats, key, expansion_point: as in `blocking`.
        max_order: the last order k ≥ 1. Where JAX has no Taylor rule for the head the work doubles with each order.

    Raises:
        TypeError, ValueError: as in `blocking`, and for `max_order` < 1.
    """
    check_at_least_one("max_order", max_order)
    problem = pose(
        loss, normalizer, x, *row_arguments, params=params, stats=stats, key=key, expansion_point=expansion_point
    )
    standardized = standardize(problem)
    orders = _orders(
        problem.row_heads(),
        problem.center,
        standardized,
        feature_axis=problem.feature_axis,
        max_order=max_order,
    )
    check_finite(orders.losses, orders.center_losses, orders.total)
    stacked, value = _carried_back(problem, orders, standardized - problem.center)
    return SpectrumReport(
        orders={k + 1: split_part(stacked, k, max_order + k, 2 * max_order + k) for k in range(max_order)},
        remainder=split_part(stacked, 3 * max_order),
        loss=stacked.value[-1],
        value=value,
        total_gradient=stacked.input_gradient[-1],
        normalizer=problem.normalizer.name,
    )


class _Orders(NamedTuple):
    """The gradients at the output, each of shape (max_order, n, *row), and the losses of the rows."""

    total: Array
    shared: Array
    loss_gradient: Array
    losses: Array
    center_losses: Array


@partial(jax.jit, static_argnames=("feature_axis", "max_order"))
def _orders(heads: RowHeads, center: Array, standardized: Array, *, feature_axis: int, max_order: int) -> _Orders:
    def one_row(head: Callable, center: Array, row: Array, *rest: Any) -> tuple[Array, ...]:
        orders = order_gradients(head, center, row - center, *rest, max_order=max_order)
        return orders, head(center, *rest), *jax.value_and_grad(head)(row, *rest)

    mean_head = heads.mean()

    def mean_row(delta: Array) -> Array:
        return order_gradients(mean_head, center, delta, max_order=max_order)

    by_row, center_losses, losses, loss_gradient = heads.map_rows(one_row, standardized, point=center)
    total = jnp.moveaxis(by_row, 1, 0)
    shared = jnp.moveaxis(jax.vmap(mean_row)(standardized - center), 1, 0)
    shared = shared.at[0].set(mean_over_positions(shared[0, 0], feature_axis))
    return _Orders(total, shared, loss_gradient, losses, center_losses)


@jax.jit
def _carried_back(problem: Problem, orders: _Orders, delta: Array) -> tuple[Part, Array]:
    """Return the stacked parts (totals, shared, individual, remainder, the whole loss) and the value at the center."""
    count = len(orders.total)
    rest = orders.loss_gradient - jnp.sum(orders.total, axis=0)
    individual = orders.total - orders.shared
    output = jnp.concatenate([orders.total, orders.shared, individual, rest[None], orders.loss_gradient[None]])

    axes = tuple(range(1, output.ndim))
    sizes = norms(orders.total)
    everything = jnp.sum(sizes) + norms(orders.loss_gradient[None])[0]
    # An order that is zero by symmetry comes out as the rounding of those before it.
    before = jnp.pad(sizes, (2, 0))
    scales = jnp.maximum(sizes, jnp.maximum(before[1:-1], before[:-2]))
    rounding = 256 * jnp.finfo(output.dtype).eps * jnp.append(jnp.tile(scales, 3), everything)

    # A homogeneous polynomial of degree k is its gradient times its argument over k.
    values = jnp.sum(output[: 3 * count] * delta, axis=axes) / jnp.tile(jnp.arange(1, count + 1), 3)
    rest_value = jnp.sum(orders.losses - orders.center_losses) - jnp.sum(values[:count])
    values = jnp.concatenate([values, rest_value[None], jnp.sum(orders.losses)[None]])

    return carry_back(problem, values, output, jnp.append(rounding, 0.0)), jnp.sum(orders.center_losses)
