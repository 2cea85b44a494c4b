"""Statements on what batch normalization blocks: J, J2, T1–T7 (arXiv 2205.15146; docs/theory.md).

Each function takes the normalizer under test and a case and returns both sides; the left goes through the normalizer
and automatic differentiation, the right through the closed form. Derivatives are taken in units of the features' own
scale, `∂/∂z` with `x = x₀ + s z`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from bnjax.normalizers.normalizer import Normalizer
from bnjax.theorems.standardization import (
    Closed,
    applied,
    closed,
    columns,
    compare,
    jacobian_product,
    second_derivative,
    standardized,
)
from bnjax.theorems.statement import Case, Comparison


def first_derivative(normalizer: Normalizer, case: Case, *, epsilon: float) -> Comparison:
    """J: `s J v = P v - ŷ (ŷᵀ v)/m`, forward and, J being symmetric, backward."""
    shifted, formula, origin, direction = _setting(normalizer, case, epsilon)
    cotangent = columns(case.cotangent)
    forward = jax.jvp(shifted, (origin,), (direction,))[1]
    (backward,) = jax.vjp(shifted, origin)[1](cotangent)
    left = jnp.stack([forward / _rms(direction), backward / _rms(cotangent)])
    right = jnp.stack(
        [
            jacobian_product(formula.values, direction) / _rms(direction),
            jacobian_product(formula.values, cotangent) / _rms(cotangent),
        ]
    )
    return compare(left, right, _largest(formula), case, formula.scale)


def second_derivative_of_standardization(normalizer: Normalizer, case: Case, *, epsilon: float) -> Comparison:
    """J2: the closed form of `s² Σ_k G_k ∂²ŷ_k v`."""
    shifted, formula, origin, direction = _setting(normalizer, case, epsilon)
    cotangent = columns(case.cotangent)

    def gradient(z: Array) -> Array:
        return jax.vjp(shifted, z)[1](cotangent)[0]

    left = jax.jvp(gradient, (origin,), (direction,))[1]
    right = second_derivative(formula.values, cotangent, direction)
    return compare(left, right, _rms(cotangent) * _rms(direction) * _largest(formula) ** 2, case, formula.scale)


def shared_gradient_term(normalizer: Normalizer, case: Case, *, epsilon: float) -> Comparison:
    """T1: `Σ_i ḡᵀŷ_i = 0` for every X and epsilon: value and derivatives of order 1, 2 and 3 vanish."""
    shifted, formula, origin, direction = _setting(normalizer, case, epsilon)

    def term(z: Array) -> Array:
        return jnp.sum(case.coefficients * shifted(z))

    left = _value_and_derivatives(term, origin, direction / _rms(direction), orders=3)
    size = jnp.linalg.norm(case.coefficients) * len(origin) * _largest(formula) ** jnp.arange(len(left))
    return compare(left, jnp.zeros_like(left), size, case, formula.scale)


def shared_diagonal_term(normalizer: Normalizer, case: Case, *, epsilon: float) -> Comparison:
    """T2: of `½ Σ_d h̄_d Σ_i ŷ_id²` survives the gradient `h̄ (ε/s²) ŷ / s` and the Hessian `(h̄ε/s⁴)(P - 4ŷŷᵀ/m)`.

    At ε = 0 both are zero.
    """
    shifted, formula, origin, direction = _setting(normalizer, case, epsilon)

    def term(z: Array) -> Array:
        return 0.5 * jnp.sum(case.coefficients * shifted(z) ** 2)

    gradient, hessian_product = jax.jvp(jax.grad(term), (origin,), (direction,))
    left = jnp.stack([gradient, hessian_product / _rms(direction)])
    passed = case.coefficients * epsilon / (formula.variance + epsilon)
    values = formula.values
    curvature = direction - jnp.mean(direction, axis=0) - 4 * values * jnp.mean(values * direction, axis=0)
    right = passed * jnp.stack([values, curvature / _rms(direction)])
    size = jnp.linalg.norm(case.coefficients) * _largest(formula) ** 3
    return compare(left, right, size, case, formula.scale)


def off_diagonal_term(normalizer: Normalizer, case: Case) -> Comparison:
    """T3: `s_d J_d ŷ_d' = ŷ_d' - ρ ŷ_d`, of whose squared norm the share `1 - ρ²` survives; its linear part does not.

    At ε = 0, for all pairs of features. The linear part is `(Ŷ_linearᵀ ŷ_d)` with `Ŷ_linear`, the projection of `ŷ_d'`
    on `ŷ_d`, held constant.
    """
    shifted, formula, origin, _ = _setting(normalizer, case, 0.0)
    values, transpose = jax.vjp(shifted, origin)
    rows = len(formula.values)

    def carried(vector: Array) -> Array:
        """Carry one column back through every feature."""
        return transpose(jnp.broadcast_to(vector[:, None], values.shape))[0]

    correlation = formula.values.T @ formula.values / rows
    arrived = jax.vmap(carried, in_axes=1)(formula.values)
    expected = formula.values.T[:, :, None] - formula.values[None] * correlation[:, None, :]
    share = jnp.sum(arrived**2, axis=1) / rows
    linear = jax.vmap(lambda rho: transpose(formula.values * rho)[0])(correlation)
    left = jnp.concatenate([arrived.ravel(), share.ravel(), linear.ravel()])
    right = jnp.concatenate([expected.ravel(), (1 - correlation**2).ravel(), jnp.zeros(linear.size, left.dtype)])
    return compare(left, right, _largest(formula), case, formula.scale)


def pure_powers(normalizer: Normalizer, case: Case) -> Comparison:
    """T4: `s J ŷ^(k-1) = ŷ^(k-1) - mean(ŷ^(k-1)) - mean(ŷ^k) ŷ` for k = 1 … 6, zero for k = 1, 2."""
    shifted, formula, origin, _ = _setting(normalizer, case, 0.0)

    def term(k: int) -> Callable[[Array], Array]:
        return lambda z: jnp.sum(shifted(z) ** k) / k

    def expected(k: int) -> Array:
        power = formula.values ** (k - 1)
        return power - jnp.mean(power, axis=0) - jnp.mean(formula.values**k, axis=0) * formula.values

    sizes = jnp.stack([_largest(formula) ** (k + 1) for k in range(1, 7)])[:, None, None]
    left = jnp.stack([jax.grad(term(k))(origin) for k in range(1, 7)])
    right = jnp.stack([jnp.zeros_like(origin)] * 2 + [expected(k) for k in range(3, 7)])
    return compare(left, right, sizes, case, formula.scale)


def affine_phase(normalizer: Normalizer, case: Case) -> Comparison:
    """T5: no affine phase lets the shared `gradient` or `diagonal` term through."""
    formula = closed(columns(case.x), 0.0)
    apply = applied(normalizer, case, {"scale": case.gamma, "bias": case.beta})
    curvature = case.coefficients[::-1]

    def terms(x: Array) -> Array:
        standardized_by_output = (apply(x) - case.beta) / case.gamma
        linear = jnp.sum(case.coefficients * apply(x) / jnp.abs(case.gamma))
        return jnp.stack([linear, 0.5 * jnp.sum(curvature * standardized_by_output**2)])

    left = formula.scale * jax.jacrev(terms)(columns(case.x))
    size = jnp.linalg.norm(case.coefficients) * _largest(formula) ** 2 * (1 + jnp.max(jnp.abs(case.beta / case.gamma)))
    return compare(left, jnp.zeros_like(left), size, case, formula.scale)


def transported_hessian(normalizer: Normalizer, case: Case, *, epsilon: float) -> Comparison:
    """T6: `H_X v = Jᵀ H_Y J v + Σ_k G_k ∂²ŷ_k v`, for a loss that couples all rows."""
    shifted, formula, origin, direction = _setting(normalizer, case, epsilon)

    def loss(y: Array) -> Array:
        return _coupled_loss(case, y)

    left = jax.jvp(jax.grad(lambda z: loss(shifted(z))), (origin,), (direction,))[1]
    gradient, curvature = jax.jvp(jax.grad(loss), (formula.values,), (jacobian_product(formula.values, direction),))
    right = jacobian_product(formula.values, curvature) + second_derivative(formula.values, gradient, direction)
    size = (_rms(gradient) + _rms(curvature)) * _rms(direction) * _largest(formula) ** 2
    return compare(left, right, size, case, formula.scale)


def removed_gradient(normalizer: Normalizer, case: Case, *, epsilon: float) -> Comparison:
    """T7: of the actual gradient the mean is removed and the factor `1 - ε/(σ² + ε)` of its component along ŷ.

    What is removed, `G - s JᵀG`, is `(γ/m)(∂L/∂β + ŷ ∂L/∂γ)`: it is what the normalizer hands to β and γ.
    """
    formula, x = closed(columns(case.x), epsilon), columns(case.x)

    def loss(params: dict[str, Array], x: Array) -> Array:
        return _coupled_loss(case, applied(normalizer, case, params)(x) / jnp.max(jnp.abs(case.gamma)))

    to_params, to_x = jax.grad(loss, argnums=(0, 1))({"scale": case.gamma, "bias": case.beta}, x)
    values = formula.values
    top = jnp.max(jnp.abs(case.gamma))
    at_output = jax.grad(lambda y: _coupled_loss(case, y / top))(case.gamma * values + case.beta)
    gradient = case.gamma * at_output
    along = values * (jnp.sum(values * gradient, axis=0) / jnp.sum(values**2, axis=0))
    removed = jnp.mean(gradient, axis=0) + (1 - epsilon / (formula.variance + epsilon)) * along
    handed_over = case.gamma / len(x) * (to_params["bias"] + values * to_params["scale"])
    left = jnp.stack([gradient - formula.scale * to_x, handed_over])
    size = _rms(gradient) * _largest(formula) ** 2
    return compare(left, jnp.stack([removed, removed]), size, case, formula.scale)


def _setting(normalizer: Normalizer, case: Case, epsilon: float) -> tuple[Callable, Closed, Array, Array]:
    shifted, _ = standardized(normalizer, case)
    direction = columns(case.direction)
    return shifted, closed(columns(case.x), epsilon), jnp.zeros_like(direction), direction


def _coupled_loss(case: Case, y: Array) -> Array:
    return jnp.sum(jnp.log(jnp.cosh(case.mixing @ y)))


def _value_and_derivatives(function: Callable, point: Array, direction: Array, *, orders: int) -> Array:
    functions = [function]
    for _ in range(orders):
        lower = functions[-1]
        functions.append(lambda point, lower=lower: jax.jvp(lower, (point,), (direction,))[1])
    return jnp.stack([function(point) for function in functions])


def _rms(array: Array) -> Array:
    return jnp.sqrt(jnp.mean(array**2))


def _largest(formula: Closed) -> Array:
    """Return the largest |ŷ|, at least 1: products of k standardized values are of its k-th power."""
    return jnp.maximum(jnp.max(jnp.abs(formula.values)), 1.0)
