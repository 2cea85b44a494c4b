"""Which parts of the loss are there? The exact expansion of every row's loss, sorted into named terms.

Each row's loss is `ℓ_i(ŷ_i) = value + gradient + diagonal + off_diagonal + remainder` around one point `c`
(docs/theory.md, setting), summed over rows. A term is handled as a *gradient field*: the function from the standardized
batch `Ŷ` to the term's gradient there. The coefficients `g_i` and `H_i` at `c` are constants in it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnjax.derivatives.chunks import map_chunks, sum_chunks
from bnjax.derivatives.estimated_diagonal import Probes
from bnjax.derivatives.expansion import hessian_at
from bnjax.derivatives.heads import LogitsHead, behind_affine
from bnjax.derivatives.low_rank import LowRankHessian, mean_product
from bnjax.derivatives.norms import norms
from bnjax.normalizers.moments import batch_axes

SECOND_ORDER = ("diagonal", "off_diagonal")
REMAINDER = "remainder"
TERMS = ("gradient", *SECOND_ORDER, REMAINDER)
PARTS = ("total", "shared", "individual")
# In this order the parts are stacked; the remainder has no coefficients that rows could share.
TERM_PARTS = (*((term, part) for term in TERMS if term != REMAINDER for part in PARTS), (REMAINDER, "total"))


class RowHeads(NamedTuple):
    """The heads of all rows: one function, and what differs from row to row.

    Attributes:
        head: `head(y_row, *row_arguments) -> scalar`, a pytree.
        slope: the affine phase before it; axis 0 has length 1 (the same for all rows) or n.
        offset: likewise.
        row_arguments: arrays with one entry a row, such as labels.
    """

    head: Callable[..., Array]
    slope: Float[Array, "..."]
    offset: Float[Array, "..."]
    row_arguments: tuple

    def map_rows(
        self, function: Callable, *row_arrays: Array, point: Array | None = None, row_chunk: int | None = None
    ) -> Any:
        """Return `function(head_i, [point,] *row_i, *arguments_i)` for every row i, for `row_chunk` rows at once.

        What all rows have in common (`point`, and the affine phase unless it differs by row) is not batched, so that
        what follows from it alone is computed once a chunk. None means all rows at once.
        """

        def one_row(slope: Array, offset: Array, point: Array | None, *rest: Any) -> Any:
            common = () if point is None else (point,)
            return function(behind_affine(self.head, slope, offset), *common, *rest)

        def of_chunk(rows: tuple) -> Any:
            heads, arrays = self.with_rows(rows[0]), rows[1]
            slope, slope_axis = _unbatched(heads.slope)
            offset, offset_axis = _unbatched(heads.offset)
            rest = (*arrays, *heads.row_arguments)
            axes = (slope_axis, offset_axis, None, *[0] * len(rest))
            return jax.vmap(one_row, in_axes=axes)(slope, offset, point, *rest)

        return map_chunks(of_chunk, (self.rows(), row_arrays), at_once=row_chunk)

    def rows(self) -> tuple[Array | None, Array | None, tuple]:
        """Return what differs from row to row, a tree of arrays with one entry a row."""
        slope, offset = (None if len(array) == 1 else array for array in (self.slope, self.offset))
        return slope, offset, self.row_arguments

    def with_rows(self, rows: tuple[Array | None, Array | None, tuple]) -> "RowHeads":
        """Return the heads of other rows, some of `rows()`."""
        slope, offset, row_arguments = rows
        return RowHeads(
            self.head, self.slope if slope is None else slope, self.offset if offset is None else offset, row_arguments
        )

    def mean(self) -> Callable[[Array], Array]:
        """Return the head `ℓ̄(row) = mean_i ℓ_i(row)`, whose coefficients are the shared ones."""
        if len(self.slope) == len(self.offset) == 1:
            head = behind_affine(self.head, self.slope[0], self.offset[0])
            if isinstance(head, LogitsHead) and not head.context:
                return LogitsHead(head.logits, lambda logits: self._mean_over_arguments(head.outer, logits))
            return lambda row: self._mean_over_arguments(head, row)
        return lambda row: jnp.mean(self.map_rows(lambda head, row, *rest: head(row, *rest), point=row))

    def _mean_over_arguments(self, function: Callable[..., Array], point: Array) -> Array:
        axes = (None, *[0] * len(self.row_arguments))
        if not jax.tree.leaves(self.row_arguments):  # Then all rows have the same loss.
            return function(point, *self.row_arguments)
        return jnp.mean(jax.vmap(function, in_axes=axes)(point, *self.row_arguments))


class Terms(NamedTuple):
    """The terms at one batch, stacked in the order of `TERM_PARTS` (p of them).

    Attributes:
        values: the sums over the rows, of shape (p,).
        gradients: ∂(term)/∂Ŷ, of shape (p, n, *row).
        rounding: the size of the numbers that each gradient is a difference of, times the precision, of shape (p,):
            a gradient whose norm is below it is zero to rounding.
        center_losses: ℓ_i(c), of shape (n,); their sum is the term that does not depend on Ŷ.
        losses: ℓ_i(ŷ_i), of shape (n,).
        loss_gradient: ∂L/∂Ŷ, of shape (n, *row).
        diagonal_samples: where the diagonal is estimated, from each of k products the gradients of the `diagonal`
            term and of its shared part, whose means are in `gradients`, of shape (2, k, n, *row); None where it is
            exact.
    """

    values: Float[Array, " p"]
    gradients: Float[Array, "p n ..."]
    rounding: Float[Array, " p"]
    center_losses: Float[Array, " n"]
    losses: Float[Array, " n"]
    loss_gradient: Float[Array, "n ..."]
    diagonal_samples: Float[Array, "2 k n ..."] | None = None


def terms(
    heads: RowHeads,
    center: Float[Array, "..."],
    standardized: Float[Array, "n ..."],
    *,
    feature_axis: int,
    chunk: int = 64,
    row_chunk: int | None = None,
    probes: Probes | None = None,
) -> Terms:
    """Return all terms of the summed loss and their parts at the standardized batch Ŷ.

    Shared are the coefficients averaged over the rows, for `gradient` and `diagonal` over the positions of a feature
    too; individual is the rest (docs/theory.md, setting).

    Args:
        heads: the head of every row.
        center: the expansion point c, in the shape of a row.
        standardized: Ŷ, of shape (n, *row).
        feature_axis: the axis of the features in `standardized`, negative.
        chunk: Hessian columns, or other products with the Hessian of a row, at once.
        row_chunk: rows at once, None for all. Of the head there are never more derivatives at a time than those of
            `row_chunk` rows: `chunk` products for each, or its k logits' gradients where these are piecewise linear.
            Of all rows there are some 30 arrays of the size of Ŷ, and k more where the rows have k piecewise-linear
            logits of their own.
        probes: estimate the diagonals, unless the logits are piecewise linear, from `count` products with each row's
            Hessian in place of D; 3 · `count` more arrays of the size of Ŷ. All else, the sum of `diagonal` and
            `off_diagonal` too, stays exact.
    """

    def one_row(head: Callable, center: Array, row: Array, number: Array, *row_arguments: Any) -> tuple[Any, ...]:
        at_center = jax.value_and_grad(head)(center, *row_arguments)
        here = jax.value_and_grad(head)(row, *row_arguments)
        hessian = hessian_at(head, center, *row_arguments, chunk=chunk)
        low_rank = hessian if isinstance(hessian, LowRankHessian) else None
        samples = None if probes is None or isinstance(hessian, LowRankHessian) else probes.samples(hessian, number)
        diagonal = hessian.diagonal() if samples is None else jnp.mean(samples, axis=0)
        # The mean of rows with logits of their own has no low rank.
        kept = None if isinstance(mean_head, LogitsHead) else low_rank
        return *at_center, diagonal, hessian.product(row - center), *here, kept, samples

    mean_head, numbers = heads.mean(), jnp.arange(len(standardized))
    center_losses, gradient, diagonal, second, losses, loss_gradient, low_rank, samples = heads.map_rows(
        one_row, standardized, numbers, point=center, row_chunk=row_chunk
    )
    delta = standardized - center
    total = jnp.stack([gradient, diagonal * delta, second - diagonal * delta, loss_gradient - gradient - second])

    def shared_coefficients(of_rows: Array) -> Array:
        return mean_over_positions(jnp.mean(of_rows, axis=0), feature_axis)

    mean_second = _mean_products(heads, mean_head, center, low_rank, delta, chunk=chunk, row_chunk=row_chunk)
    shared = jnp.stack(
        [
            jnp.broadcast_to(shared_coefficients(gradient), delta.shape),
            shared_coefficients(diagonal) * delta,
            mean_second - jnp.mean(diagonal, axis=0) * delta,
        ]
    )
    gradients = _interleave(total, shared)
    if samples is not None:
        samples = jnp.swapaxes(samples, 0, 1)
        samples = jnp.stack([samples * delta, jax.vmap(shared_coefficients)(samples)[:, None] * delta])

    # The gradient term is linear in δ, the two quadratic ones are half of their gradient times δ.
    weights = jnp.array([1.0] * 3 + [0.5] * 6, delta.dtype)
    values = weights * jnp.sum(gradients[:-1] * delta, axis=tuple(range(1, gradients.ndim)))
    values = jnp.append(values, jnp.sum(losses - center_losses) - values[0] - values[3] - values[6])

    first, diagonal, second, here = (norms(array[None])[0] for array in (gradient, total[1], second, loss_gradient))
    sizes = jnp.stack([first] * 3 + [diagonal] * 3 + [second + diagonal] * 3 + [here + first + second])
    rounding = 256 * jnp.finfo(delta.dtype).eps * sizes
    return Terms(values, gradients, rounding, center_losses, losses, loss_gradient, samples)


def _mean_products(
    heads: RowHeads,
    mean_head: Callable[[Array], Array],
    center: Array,
    low_rank: LowRankHessian | None,
    vectors: Float[Array, "n ..."],
    *,
    chunk: int,
    row_chunk: int | None,
) -> Float[Array, "n ..."]:
    """Return `mean_i(H_i) v` for n stacked vectors v, as many as there are rows.

    From the factors of the rows' Hessians, of rows with piecewise-linear logits of their own; from one Jacobian where
    the rows share the logits; else from n² products of a row. Arguments as in `terms`.
    """
    if low_rank is not None:
        return map_chunks(jax.vmap(partial(mean_product, low_rank)), vectors, at_once=chunk)
    if isinstance(mean_head, LogitsHead) and isinstance(hessian := hessian_at(mean_head, center), LowRankHessian):
        return jax.vmap(hessian.product)(vectors)

    def of_chunk(rows: tuple, weights: Array) -> Array:
        def weighted_loss(point: Array) -> Array:
            losses = heads.with_rows(rows).map_rows(
                lambda head, point, weight, *rest: weight * head(point, *rest), weights, point=point
            )
            return jnp.sum(losses)

        _, product = jax.linearize(jax.grad(weighted_loss), center)
        return map_chunks(jax.vmap(product), vectors, at_once=chunk)

    weights = jnp.full(len(vectors), 1 / len(vectors), vectors.dtype)
    return sum_chunks(of_chunk, heads.rows(), weights, at_once=row_chunk)


def _interleave(total: Array, shared: Array) -> Array:
    """Stack totals and shared parts in the order of `TERM_PARTS`, with the individual parts as their difference."""
    split = jnp.stack([total[:-1], shared, total[:-1] - shared], axis=1)
    return jnp.concatenate([split.reshape(-1, *total.shape[1:]), total[-1:]])


def mean_over_positions(row: Array, feature_axis: int) -> Array:
    """Return `row` with each feature's entries replaced by their mean over the positions."""
    return jnp.broadcast_to(jnp.mean(row, axis=batch_axes(row, feature_axis), keepdims=True), row.shape)


def _unbatched(array: Array) -> tuple[Array, int | None]:
    return (array[0], None) if len(array) == 1 else (array, 0)
