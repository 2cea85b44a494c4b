"""What do gradient and curvature of a loss look like on both sides of batch normalization? Feature by feature, S1–S4.

With `L̂ = L ∘ normalizer`, `g = ∇_y L` at the affine output, `ĝ = ∇_x L̂`, batch size m, at ε = 0, in units that make ĝ
independent of the scales: `σ ĝ / γ` is called the normalized gradient (arXiv 1805.11604; docs/theory.md, smoothness).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from bnjax.theorems.standardization import Closed, Columns, closed

ScalarLoss = Callable[[Columns], Float[Array, ""]]


class Landscape(NamedTuple):
    """A loss before and after a normalizer at one batch, feature by feature.

    Attributes:
        formula: the standardization by its closed form.
        gamma: the affine scale γ.
        gradient: g, (m, d).
        normalized_gradient: `σ ĝ / γ`, (m, d).
        alignment: ⟨g, ŷ⟩, (d,).
        curvature_of_normalized: ĝᵀHĝ with ĝ in those units and H = ∂²L/∂y_j², (d,).
        normalized_curvature: ĝᵀ(∂²L̂/∂x_j²)ĝ in those units, times σ²/γ², (d,).
        curvature: gᵀHg, (d,).
    """

    formula: Closed
    gamma: Float[Array, " d"]
    gradient: Float[Array, "m d"]
    normalized_gradient: Float[Array, "m d"]
    alignment: Float[Array, " d"]
    curvature_of_normalized: Float[Array, " d"]
    normalized_curvature: Float[Array, " d"]
    curvature: Float[Array, " d"]


def landscape(
    loss: ScalarLoss,
    apply: Callable[[Columns], Columns],
    x: Columns,
    gamma: Float[Array, " d"],
    beta: Float[Array, " d"],
) -> Landscape:
    """Return gradients and curvatures on both sides of a normalizer.

    What is before it goes through `apply` and automatic differentiation, what is behind it starts from the closed form.

    Args:
        loss: of the normalizer's whole output, (m, d).
        apply: the normalizer with its affine phase, `X ↦ Y`.
        x: its input.
        gamma, beta: its affine scale, not 0, and bias.
    """
    formula = closed(x, 0.0)
    unit = formula.scale / gamma  # x = x₀ + unit · z makes ∂L̂/∂z the gradient in units of γ/σ

    def normalized_loss(z: Columns) -> Array:
        return loss(apply(x + unit * z))

    origin = jnp.zeros_like(x)
    normalized_gradient, normalized_curvature = _gradient_and_own_curvatures(normalized_loss, origin)
    output = gamma * formula.values + beta
    gradient, curvature, curvature_of_normalized = _gradient_and_own_curvatures(loss, output, normalized_gradient)
    return Landscape(
        formula=formula,
        gamma=gamma,
        gradient=gradient,
        normalized_gradient=normalized_gradient,
        alignment=jnp.sum(gradient * formula.values, axis=0),
        curvature_of_normalized=curvature_of_normalized,
        normalized_curvature=normalized_curvature,
        curvature=curvature,
    )


def squared_gradient_formula(at: Landscape) -> Float[Array, " d"]:
    """Return the right side of S1, `‖g‖² - ⟨1,g⟩²/m - ⟨g,ŷ⟩²/m`, which is the normalized gradient's squared norm."""
    return _squared_gradient(at, power=1.0)


def squared_gradient_printed(at: Landscape) -> Float[Array, " d"]:
    """Return the right side of theorem 4.1 as printed: with the last factor `1/√m`, and `≤`."""
    return _squared_gradient(at, power=0.5)


def curvature_formula(at: Landscape) -> Float[Array, " d"]:
    """Return the right side of S2, `ĝᵀHĝ - ⟨g,ŷ⟩ ‖ĝ‖² / (mγ)`, which is the normalized curvature."""
    return at.curvature_of_normalized - _own_share(at)


def curvature_printed(at: Landscape) -> Float[Array, " d"]:
    """Return the right side of theorem 4.2's second part as printed: `gᵀHg - ⟨g,ŷ⟩ ‖ĝ‖² / (mγ)`, and `≤`."""
    return at.curvature - _own_share(at)


def aligned(at: Landscape) -> Bool[Array, " d"]:
    """Return where the hypothesis of S3 holds, `γ⟨g,ŷ⟩ ≥ 0`."""
    return at.gamma * at.alignment >= 0


def keeps_relative_norms(at: Landscape) -> Bool[Array, " d"]:
    """Return where the hypothesis of theorem 4.2's second part holds: H preserves the relative norms of g and ĝ.

    In these units ‖ĝ‖ ≤ ‖g‖, so that is `ĝᵀHĝ ≤ gᵀHg` (docs/theory.md, S3).
    """
    return at.curvature_of_normalized <= at.curvature


def largest_weight_gradient_printed(at: Landscape, radius: Float[Array, ""] | float = 1.0) -> Float[Array, " d"]:
    """Return the right side of theorem 4.4 as printed: `λ²‖g‖² - mμ_g² - λ²⟨g,ŷ⟩²`, and `≤`, for inputs up to λ."""
    mean = jnp.mean(at.gradient, axis=0)
    return radius**2 * squares(at.gradient) - len(at.gradient) * mean**2 - radius**2 * at.alignment**2


def squares(table: Columns) -> Float[Array, " d"]:
    """Return the squared norm of every column."""
    return jnp.sum(table**2, axis=0)


def _squared_gradient(at: Landscape, *, power: float) -> Array:
    m = len(at.gradient)
    return squares(at.gradient) - jnp.sum(at.gradient, axis=0) ** 2 / m - at.alignment**2 / m**power


def _own_share(at: Landscape) -> Array:
    return at.alignment * squares(at.normalized_gradient) / (len(at.gradient) * at.gamma)


def _gradient_and_own_curvatures(loss: ScalarLoss, at: Columns, *directions: Columns) -> tuple[Array, ...]:
    """Return the gradient, and the curvature along it and other directions in each feature's own Hessian block."""
    gradient, product = jax.linearize(jax.grad(loss), at)

    def own(feature: Array) -> Array:
        column = jnp.arange(at.shape[1]) == feature
        return jnp.stack([jnp.sum(way * column * product(way * column)) for way in (gradient, *directions)])

    return gradient, *jax.lax.map(own, jnp.arange(at.shape[1])).T
