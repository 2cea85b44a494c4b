"""What should all of it be? Slow, dense and obviously right: the oracle of tests and documentation.

Everything here follows the definitions of docs/theory.md letter by letter with `jax.grad` and `jax.hessian`, one row
at a time, with dense matrices. Use it on small shapes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class ReferenceTerm(NamedTuple):
    """A term's value and its derivatives with respect to the normalizer's input.

    Attributes:
        value: the sum over the rows.
        output_gradient: with respect to Ŷ.
        input_gradient: with respect to X.
        output_hessian: of shape (nD, nD), with respect to the flattened Ŷ.
        input_hessian: of shape (nD, nD), with respect to the flattened X.
    """

    value: Array
    output_gradient: Array
    input_gradient: Array
    output_hessian: Array
    input_hessian: Array


def reference_terms(
    row_heads: list[Callable[[Array], Array]],
    standardization: Callable[[Array], Array],
    x: Float[Array, "n ..."],
    center: Float[Array, "..."],
    *,
    feature_axis: int = -1,
) -> dict[tuple[str, str], ReferenceTerm]:
    """Return every `(term, part)`, differentiated densely.

    Args:
        row_heads: the head of each row, affine phase included, `(row) -> scalar`.
        standardization: `X ↦ Ŷ`.
        x: X, of shape (n, *row).
        center: the expansion point c, in the shape of a row.
        feature_axis: the axis of the features in `x`, negative.
    """
    size = center.size
    gradients = jnp.stack([jax.grad(head)(center) for head in row_heads])
    hessians = jnp.stack([jax.hessian(head)(center).reshape(size, size) for head in row_heads])
    diagonals = jnp.stack([jnp.diag(hessian) for hessian in hessians]).reshape(gradients.shape)
    off_diagonals = jnp.stack([hessian - jnp.diag(jnp.diag(hessian)) for hessian in hessians])

    def shared(coefficients: Array) -> Array:
        axes = tuple(axis for axis in range(x.ndim) if axis != feature_axis % x.ndim)
        return jnp.broadcast_to(jnp.mean(coefficients, axis=axes, keepdims=True), coefficients.shape)

    def linear(coefficients: Array) -> Callable[[Array], Array]:
        return lambda y: jnp.sum(coefficients * (y - center))

    def diagonal(coefficients: Array) -> Callable[[Array], Array]:
        return lambda y: 0.5 * jnp.sum(coefficients * jnp.square(y - center))

    def quadratic(matrices: Array) -> Callable[[Array], Array]:
        def term(y: Array) -> Array:
            deltas = (y - center).reshape(len(y), size)
            return 0.5 * jnp.einsum("id,ide,ie", deltas, matrices, deltas)

        return term

    def remainder(y: Array) -> Array:
        loss = sum(head(row) for head, row in zip(row_heads, y, strict=True))
        value = sum(head(center) for head in row_heads)
        expansion = linear(gradients)(y) + diagonal(diagonals)(y) + quadratic(off_diagonals)(y)
        return loss - value - expansion

    mean_off_diagonal = jnp.broadcast_to(jnp.mean(off_diagonals, axis=0), off_diagonals.shape)
    functions = {
        ("gradient", "total"): linear(gradients),
        ("gradient", "shared"): linear(shared(gradients)),
        ("gradient", "individual"): linear(gradients - shared(gradients)),
        ("diagonal", "total"): diagonal(diagonals),
        ("diagonal", "shared"): diagonal(shared(diagonals)),
        ("diagonal", "individual"): diagonal(diagonals - shared(diagonals)),
        ("off_diagonal", "total"): quadratic(off_diagonals),
        ("off_diagonal", "shared"): quadratic(mean_off_diagonal),
        ("off_diagonal", "individual"): quadratic(off_diagonals - mean_off_diagonal),
        ("remainder", "total"): remainder,
    }

    # Stacked, so that what they share is differentiated, and compiled, once.
    def at_output(y: Array) -> Array:
        return jnp.stack([term(y) for term in functions.values()])

    def at_input(x: Array) -> Array:
        return at_output(standardization(x))

    y, flat = standardization(x), (len(functions), x.size, x.size)
    derivatives = zip(
        at_output(y),
        jax.jacrev(at_output)(y),
        jax.jacrev(at_input)(x),
        jax.hessian(at_output)(y).reshape(flat),
        jax.hessian(at_input)(x).reshape(flat),
        strict=True,
    )
    return {key: ReferenceTerm(*term) for key, term in zip(functions, derivatives, strict=True)}
