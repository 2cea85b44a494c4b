"""Statements on how batch normalization smooths a loss: S1–S6 (arXiv 1805.11604; docs/theory.md).

Each as derived and, where the paper prints something else, as printed. All at ε = 0, per feature, with
`L̂ = L ∘ normalizer`, `g = ∇_y L` at the affine output, `ĝ = ∇_x L̂`, batch size m.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array

from bnjax.normalizers.normalizer import Normalizer
from bnjax.theorems.landscape import (
    Landscape,
    aligned,
    curvature_formula,
    curvature_printed,
    keeps_relative_norms,
    landscape,
    largest_weight_gradient_printed,
    squared_gradient_formula,
    squared_gradient_printed,
    squares,
)
from bnjax.theorems.standardization import applied, closed, columns, compare
from bnjax.theorems.statement import Case, Comparison


def gradient_norm(normalizer: Normalizer, case: Case) -> Comparison:
    """S1: `‖ĝ‖² = (γ²/σ²)(‖g‖² - ⟨1,g⟩²/m - ⟨g,ŷ⟩²/m)`, the paper's theorem 4.1 as an equality."""
    at = _landscape(normalizer, case)
    return _compare(at, case, squares(at.normalized_gradient), squared_gradient_formula(at), _gradient_size(at, case))


def gradient_norm_printed(normalizer: Normalizer, case: Case) -> Comparison:
    """S1 as printed: `≤`, with the last factor `1/√m`."""
    at = _landscape(normalizer, case)
    return _compare(at, case, squares(at.normalized_gradient), squared_gradient_printed(at), _gradient_size(at, case))


def gradient_curvature(normalizer: Normalizer, case: Case) -> Comparison:
    """S2: `ĝᵀ(∂²L̂/∂x²)ĝ = (γ²/σ²) ĝᵀHĝ - (γ/(mσ²)) ⟨g,ŷ⟩ ‖ĝ‖²`, theorem 4.2 as an equality (printed: ≤)."""
    at = _landscape(normalizer, case)
    return _compare(at, case, at.normalized_curvature, curvature_formula(at), _curvature_size(at, case))


def smaller_curvature(normalizer: Normalizer, case: Case) -> Comparison:
    """S3: if `γ⟨g,ŷ⟩ ≥ 0` then `ĝᵀ(∂²L̂/∂x²)ĝ ≤ (γ²/σ²) ĝᵀHĝ`."""
    at = _landscape(normalizer, case)
    compared = _compare(at, case, at.normalized_curvature, at.curvature_of_normalized, _curvature_size(at, case))
    return compared._replace(applies=aligned(at))


def smaller_curvature_printed(normalizer: Normalizer, case: Case) -> Comparison:
    """S3 as printed: if H preserves the relative norms of g and ĝ, `… ≤ (γ²/σ²)(gᵀHg - ⟨g,ŷ⟩ ‖ĝ‖² / (mγ))`."""
    at = _landscape(normalizer, case)
    compared = _compare(at, case, at.normalized_curvature, curvature_printed(at), _curvature_size(at, case))
    return compared._replace(applies=keeps_relative_norms(at))


def weight_gradient(normalizer: Normalizer, case: Case) -> Comparison:
    """S4: `max ‖∇_W L̂‖² = (γ²/σ²)(max ‖∇_W L‖² - λ²mμ_g² - (λ²/m)⟨g,ŷ⟩²)` over inputs with ‖X‖₂ ≤ λ.

    The left side is the largest found: over the input that the derivation says is extremal and over a random one.
    """
    at, radius = _landscape(normalizer, case), _radius(case)
    left = radius**2 * _largest_weight_gradient(at.normalized_gradient, case)
    right = radius**2 * squared_gradient_formula(at)
    return _compare(at, case, left, right, (1 + radius**2) * _gradient_size(at, case))


def weight_gradient_printed(normalizer: Normalizer, case: Case) -> Comparison:
    """S4 as printed: `≤`, with `- mμ_g² - λ²⟨g,ŷ⟩²`."""
    at, radius = _landscape(normalizer, case), _radius(case)
    left = radius**2 * _largest_weight_gradient(at.normalized_gradient, case)
    return _compare(
        at, case, left, largest_weight_gradient_printed(at, radius), (1 + radius**2) * _gradient_size(at, case)
    )


def weight_curvature(normalizer: Normalizer, case: Case) -> Comparison:
    """S4, smoothness: for inputs with `XXᵀ = λ²I` the curvature along `∇_W L̂` is λ⁴ times the right side of S2.

    The isometric case of the paper's theorem C.1, whose maximum over all inputs has no such closed form.
    """
    at, radius = _landscape(normalizer, case), _radius(case)
    isometry = radius * jnp.linalg.qr(case.mixing)[0]
    x = columns(case.x)
    apply = applied(normalizer, case, {"scale": case.gamma, "bias": case.beta})

    def loss(steps: Array) -> Array:
        """Return the loss with the weights `W₀ + steps`, in units of σ/γ, where `X W₀` are the features."""
        y = apply(x + at.formula.scale / case.gamma * (isometry @ steps))
        return _loss(case, y)

    origin = jnp.zeros_like(x)
    gradient = jax.grad(loss)(origin)
    _, curvature = jax.jvp(jax.grad(loss), (origin,), (gradient,))
    left = jnp.sum(gradient * curvature, axis=0)
    right = radius**4 * curvature_formula(at)
    return _compare(at, case, left, right, (1 + radius**4) * _curvature_size(at, case))


def nearest_optimum(normalizer: Normalizer, case: Case) -> Comparison:
    """S5: the loss does not see the length of W, so `Ŵ* = (⟨W₀,W*⟩/‖W*‖²) W*` is as good as W* and nearer to W₀.

    `‖W₀ - Ŵ*‖² = ‖W₀ - W*‖² - (‖W*‖² - ⟨W*,W₀⟩)²/‖W*‖²`, with W₀ turned so that `⟨W₀,W*⟩ > 0`.
    """
    optimum = case.weights
    start = case.other_weights * jnp.sign(jnp.sum(case.other_weights * optimum, axis=0))
    nearest = optimum * jnp.sum(start * optimum, axis=0) / squares(optimum)

    def output(weights: Array) -> Array:
        before = case.inputs @ weights
        _, stats = normalizer.init(case.inputs @ optimum)
        params = {"scale": case.gamma, "bias": case.beta}
        return normalizer.apply(params, stats, before, key=jax.random.key(0))[0] / jnp.max(jnp.abs(case.gamma))

    shortening = (squares(optimum) - jnp.sum(optimum * start, axis=0)) ** 2 / squares(optimum)
    left = jnp.concatenate([output(nearest).ravel(), squares(start - nearest)])
    right = jnp.concatenate([output(optimum).ravel(), squares(start - optimum) - shortening])
    before = closed(case.inputs @ optimum, 0.0)
    shortened = closed(case.inputs @ nearest, 0.0)
    scale = jnp.minimum(before.scale, shortened.scale)
    size = 1 + jnp.max(jnp.abs(case.beta)) + jnp.max(squares(start) + squares(optimum))
    inputs = case._replace(x=jnp.maximum(jnp.abs(case.inputs @ optimum), jnp.abs(case.inputs @ nearest)))
    return compare(left, right, size, inputs, scale)


def kept_minima(normalizer: Normalizer, case: Case) -> Comparison:
    """S6: with `γ = σ`, `β = μ` the normalizer returns its input: the minima of the plain landscape are kept."""
    x = columns(case.x)
    formula = closed(x, 0.0)
    left = applied(normalizer, case, {"scale": formula.scale, "bias": formula.mean})(x)
    return compare(left, x, jnp.max(jnp.abs(x), axis=0), case, formula.scale)


def _landscape(normalizer: Normalizer, case: Case) -> Landscape:
    apply = applied(normalizer, case, {"scale": case.gamma, "bias": case.beta})
    return landscape(partial(_loss, case), apply, columns(case.x), case.gamma, case.beta)


def _gradient_size(at: Landscape, case: Case) -> Array:
    """Return the size of squared gradients."""
    largest = jnp.maximum(jnp.max(jnp.abs(at.formula.values)), 1.0)
    return largest**2 * (squares(at.gradient) + len(at.gradient) / _width(case) ** 2)


def _curvature_size(at: Landscape, case: Case) -> Array:
    """Return the size of curvatures along gradients."""
    size = _gradient_size(at, case)
    own_curvature = jnp.sqrt(size / len(at.gradient)) / jnp.abs(case.gamma)
    return size * (4 / _width(case) ** 2 + own_curvature)


def _loss(case: Case, y: Array) -> Array:
    """Return a loss that couples the rows, feature by feature, with curvature of both signs."""
    return jnp.sum(jnp.sin(case.mixing @ (y / _width(case))))


def _width(case: Case) -> Array:
    """Return the width of the loss, which keeps its derivatives from growing with γ."""
    return 1 + jnp.abs(case.gamma)


def _largest_weight_gradient(gradient: Array, case: Case) -> Array:
    """Return `max ‖Xᵀ gradient‖²` over the extremal and one random input of spectral norm 1, for each feature."""
    lengths = jnp.sqrt(squares(gradient))
    unit_row = case.weights[:, 0] / jnp.linalg.norm(case.weights[:, 0])
    random = case.inputs / jnp.linalg.norm(case.inputs, ord=2)

    def found(column: Array, length: Array) -> Array:
        extremal = jnp.outer(column / jnp.where(length > 0, length, 1.0), unit_row)
        return jnp.maximum(jnp.sum((extremal.T @ column) ** 2), jnp.sum((random.T @ column) ** 2))

    return jax.vmap(found, in_axes=(1, 0))(gradient, lengths)


def _radius(case: Case) -> Array:
    """Return λ, a positive random number of the case."""
    return jnp.exp(case.coefficients[0])


def _compare(at: Landscape, case: Case, left: Array, right: Array, size: Array) -> Comparison:
    return compare(left, right, size, case, at.formula.scale)
