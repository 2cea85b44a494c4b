"""Which terms of the loss get back through a normalizer? The report that the library exists for."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from bnjax.compilation import in_full_precision
from bnjax.derivatives.estimated_diagonal import Probes, check_probes
from bnjax.derivatives.terms import PARTS, TERM_PARTS, TERMS, RowHeads, Terms, terms
from bnjax.derivatives.transport import (
    HessianOperator,
    LinearizedFields,
    input_hessian_norms,
    output_hessian_norms,
    pulled_back,
)
from bnjax.devices import automatic
from bnjax.estimated_parts import with_intervals
from bnjax.normalizers.normalizer import Normalizer
from bnjax.parts import Part, carry_back, split_part
from bnjax.problem import Problem, State, check_at_least_one, check_chunks, check_finite, pose, standardize
from bnjax.report import BlockingReport


@in_full_precision
def blocking(
    loss: Callable[..., Array],
    normalizer: Normalizer,
    x: Float[ArrayLike, "n ..."],
    /,
    *row_arguments: Any,
    params: State | None = None,
    stats: State | None = None,
    key: Array | None = None,
    expansion_point: ArrayLike = 0.0,
    hessian_norms: bool = False,
    chunk: int = 64,
    row_chunk: int | None = None,
    probes: Probes | None = None,
) -> BlockingReport:
    """Return which terms of the loss `L = Σ_i loss(y_i, …)` get back through a normalizer in training mode.

    Each row's loss is expanded exactly at one point of the standardized features, with the affine phase counted as part
    of the head; each term's gradient is carried back through the standardization (docs/theory.md, setting, T1–T6).
    Compiled once per loss, normalizer and shapes (the head's part once for all normalizers). A `lambda` written anew
    for every call is a new loss each time; one that is used again keeps the arrays it closed over at first, as under
    `jax.jit`. Pass weights of the head in a `jax.tree_util.Partial`: new ones count and compile nothing anew.

    Args:
        loss: `loss(y_row, *row_arguments_i) -> scalar` of one row of the normalizer's output. A `cross_entropy_head`
            shows its logits and takes the exact low-rank path where they are piecewise linear.
        normalizer: one of `bnjax.normalizers`, applied in batch mode.
        x: features before the normalizer, (n, d), (n, h, w, d) or any shape with rows first.
        *row_arguments: further arguments of the loss, with one entry a row.
        params: the normalizer's parameters; None means those of `normalizer.init(x)`.
        stats: its statistics, likewise.
        key: the random key of a noisy normalizer.
        expansion_point: c, a number or an array that broadcasts to a row, in standardized coordinates. Where a ReLU
            follows a normalizer whose bias is 0, c = 0 sits on every kink and the whole loss is `remainder`: expand
            elsewhere (docs/theory.md, numerical traps).
        hessian_norms: also report the Frobenius norms of each part's Hessian on both sides, from n·D Hessian columns.
        chunk: how many Hessian columns are worked on at once. Memory is some chunk · n times a row's gradient for a
            head that is not piecewise linear or with `hessian_norms`; else some n · D.
        row_chunk: how many rows are expanded at once; None means all n. It stands for n in the memory of `chunk`, and
            changes nothing else: the statistics are those of the whole batch.
        probes: estimate the diagonal of every row's Hessian from `probes.count` products with random signs in place of
            D columns, where the head is not piecewise linear. Then `diagonal` and `off_diagonal` are estimates, with
            intervals of their survivals; their sum, and all else, is exact.

    Raises:
        TypeError: features or loss that are not real floating-point numbers, probes without a random key.
        ValueError: shapes that do not fit, a loss that is not a scalar, values that are not finite, fewer than 3
            probes, or probes with `hessian_norms`, and what the normalizer refuses. Values are not checked under an
            outer `jax.jit`.

    Example:
        >>> from bnjax.normalizers import batch_norm
        >>> x = jnp.array([[1.0], [2.0], [6.0]])
        >>> report = blocking(lambda y: jnp.sum(y) + jnp.sum(y**2), batch_norm(epsilon=0.0), x)
        >>> bool(report.terms["gradient"].survival < 1e-6), bool(report.terms["diagonal"].survival < 1e-6)
        (True, True)
    """
    check_chunks(chunk, row_chunk)
    check_probes(probes)
    if hessian_norms and probes is not None:
        raise ValueError("hessian_norms=True needs the exact diagonal, got probes; leave out one of the two")
    problem = pose(
        loss, normalizer, x, *row_arguments, params=params, stats=stats, key=key, expansion_point=expansion_point
    )
    standardized = standardize(problem)
    heads, axis = problem.row_heads(), problem.feature_axis
    sizes = {"chunk": chunk, "row_chunk": row_chunk}
    if not hessian_norms:
        split = split_loss(heads, problem.center, standardized, feature_axis=axis, probes=probes, **sizes)
        return assemble(problem, split)
    split, fields = _linearized_terms(heads, problem.center, standardized, feature_axis=axis, **sizes)
    check_finite(split.losses, split.center_losses, split.gradients)
    norms = _output_norms(fields, chunk=chunk), _input_norms(problem, fields, chunk=chunk)
    return assemble(problem, split, hessian_norms=norms)


@in_full_precision
def term_hessian(
    loss: Callable[..., Array],
    normalizer: Normalizer,
    x: Float[ArrayLike, "n ..."],
    /,
    *row_arguments: Any,
    term: str,
    part: str = "total",
    side: Literal["input", "output"] = "input",
    params: State | None = None,
    stats: State | None = None,
    key: Array | None = None,
    expansion_point: ArrayLike = 0.0,
    chunk: int = 64,
) -> HessianOperator:
    """Return the Hessian of one part of the loss over the flattened batch, as an operator.

    On the side `"input"` it is `Jᵀ H_Y J + Σ_k G_k ∂²ŷ_k` (docs/theory.md, T6), on the side `"output"` H_Y. The point
    is linearized once for all products (`@`).

    Args:
        loss, normalizer, x, row_arguments, params, stats, key, expansion_point, chunk: as in `blocking`.
        term: `gradient`, `diagonal`, `off_diagonal` or `remainder`.
        part: `total`, `shared` or `individual`; the remainder has only the total.
        side: whether with respect to the normalizer's input X or to its standardized output Ŷ.

    Raises:
        ValueError: a name that is none of these, and as in `blocking`.
    """
    if (term, part) not in TERM_PARTS:
        raise ValueError(
            f"term needs to be one of {TERMS} and part one of {PARTS} (the remainder has only 'total'), got {term!r} "
            f"and {part!r}"
        )
    if side not in ("input", "output"):
        raise ValueError(f"side needs to be 'input' or 'output', got {side!r}")
    check_at_least_one("chunk", chunk)
    problem = pose(
        loss, normalizer, x, *row_arguments, params=params, stats=stats, key=key, expansion_point=expansion_point
    )
    heads, axis = problem.row_heads(), problem.feature_axis
    _, fields = _linearized_terms(heads, problem.center, standardize(problem), feature_axis=axis, chunk=chunk)
    product = _linearized_field(problem, fields, TERM_PARTS.index((term, part)), side=side)
    return HessianOperator(partial(_matvec, product, shape=problem.x.shape), problem.x.size, problem.x.dtype)


def split_loss(
    heads: RowHeads,
    center: Float[Array, "..."],
    standardized: Float[Array, "n ..."],
    *,
    feature_axis: int,
    chunk: int,
    row_chunk: int | None = None,
    probes: Probes | None = None,
) -> Terms:
    """Return the terms of a loss at Ŷ, compiled and checked; arguments as in `bnjax.derivatives.terms`.

    Raises:
        ValueError: a loss or a gradient that is not finite.
    """
    sizes = {"chunk": chunk, "row_chunk": row_chunk}
    probes = jax.tree.map(automatic, probes)
    split = _terms(heads, center, standardized, feature_axis=feature_axis, probes=probes, **sizes)
    check_finite(split.losses, split.center_losses, split.gradients)
    return split


def assemble(
    problem: Problem,
    split: Terms,
    *,
    parts: Sequence[str] = PARTS,
    hessian_norms: tuple[Array | None, Array | None] = (None, None),
) -> BlockingReport:
    """Return the report on the terms at a problem's Ŷ, each carried back through its normalizer.

    Args:
        problem: the batch and the normalizer.
        split: the terms.
        parts: which parts of a term there are.
        hessian_norms: of all terms and parts, at the normalizer's output and at its input.
    """
    stacked, whole, value = _carried_back(problem, split)
    stacked = replace(stacked, hessian_norm_output=hessian_norms[0], hessian_norm_input=hessian_norms[1])
    numbers = {name: [TERM_PARTS.index((name, part)) for part in parts if (name, part) in TERM_PARTS] for name in TERMS}
    return BlockingReport(
        # A plain dict would leave compiled code in alphabetical order.
        terms=OrderedDict((name, split_part(stacked, *indices)) for name, indices in numbers.items()),
        loss=whole.value,
        value=value,
        total_gradient=whole.input_gradient,
        total_survival=whole.survival,
        normalizer=problem.normalizer.name,
        estimated_from=None if split.diagonal_samples is None else split.diagonal_samples.shape[1],
    )


# The first two are compiled apart from what follows, so that one head is compiled once for all normalizers.
_terms = jax.jit(terms, static_argnames=("feature_axis", "chunk", "row_chunk"))


@partial(jax.jit, static_argnames=("feature_axis", "chunk", "row_chunk"))
def _linearized_terms(
    heads: RowHeads, center: Array, standardized: Array, *, feature_axis: int, chunk: int, row_chunk: int | None = None
) -> tuple[Terms, LinearizedFields]:
    """Return the terms at Ŷ, and around it the gradient fields of all parts, in the order of `TERM_PARTS`."""

    def gradients(at: Array) -> tuple[Array, Terms]:
        split = terms(heads, center, at, feature_axis=feature_axis, chunk=chunk, row_chunk=row_chunk)
        return split.gradients, split

    _, product, split = jax.linearize(gradients, standardized, has_aux=True)
    return split, LinearizedFields(standardized, split.gradients, product)


@partial(jax.jit, static_argnames=("chunk",))
def _output_norms(fields: LinearizedFields, *, chunk: int) -> Array:
    return output_hessian_norms(fields, fields.standardized, chunk=chunk)


@partial(jax.jit, static_argnames=("chunk",))
def _input_norms(problem: Problem, fields: LinearizedFields, *, chunk: int) -> Array:
    return input_hessian_norms(pulled_back(problem.standardization, fields), problem.x, chunk=chunk)


@partial(jax.jit, static_argnames=("side",))
def _linearized_field(problem: Problem, fields: LinearizedFields, index: Array | int, *, side: str) -> Callable:
    """Linearize the gradient field of the part number `index`, a function of X or of Ŷ; the result is a pytree."""

    def at_output(standardized: Array) -> Array:
        return fields(standardized)[index, None]

    if side == "output":
        field, point = at_output, fields.standardized
    else:
        field, point = pulled_back(problem.standardization, at_output), problem.x
    return jax.linearize(lambda at: field(at)[0], point)[1]


@partial(jax.jit, static_argnames=("shape",))
def _matvec(product: Callable, vector: Array, *, shape: tuple[int, ...]) -> Array:
    return product(vector.reshape(shape)).ravel()


@jax.jit
def _carried_back(problem: Problem, split: Terms) -> tuple[Part, Part, Array]:
    """Return the stacked parts, the whole loss as one part, and the value of the term without gradient."""
    rounding = jnp.append(split.rounding, 0.0)
    stacked = carry_back(
        problem,
        jnp.append(split.values, jnp.sum(split.losses)),
        jnp.concatenate([split.gradients, split.loss_gradient[None]]),
        rounding,
    )
    if split.diagonal_samples is not None:
        stacked = with_intervals(problem, stacked, split, rounding)
    parts, whole = (jax.tree.map(lambda leaf, at=at: leaf[at], stacked) for at in (slice(-1), -1))
    return parts, whole, jnp.sum(split.center_losses)
