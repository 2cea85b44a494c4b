"""Statements on collapsed filters: F1 (arXiv 2001.11216; docs/theory.md)."""

from collections.abc import Callable

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array

from bnjax.normalizers.normalizer import Normalizer
from bnjax.theorems.standardization import applied, closed, columns
from bnjax.theorems.statement import Case, Comparison, rounding_bound


def dead_region(normalizer: Normalizer, case: Case) -> Comparison:
    """F1: where `β + max γx̂ < 0` gradient and Hessian of the loss in (γ, β) are zero, exactly, behind a ReLU."""
    derivatives = _derivatives(normalizer, case, jax.nn.relu, margin=-0.5)
    return Comparison(derivatives, jnp.zeros_like(derivatives), jnp.ones(()), jnp.zeros(()))


def live_side(normalizer: Normalizer, case: Case) -> Comparison:
    """F1: as soon as one entry of a filter is on the live side its gradient is not zero: the border is a jump."""
    params = _params(case, margin=0.01)
    gradient = jax.grad(_loss, argnums=3)(normalizer, case, jax.nn.relu, params)
    alive = jnp.abs(gradient["bias"]) > 0
    return Comparison(alive.astype(case.x.dtype), jnp.ones_like(case.gamma), jnp.ones(()), jnp.zeros(()))


def leaky_dead_region(normalizer: Normalizer, case: Case) -> Comparison:
    """F1: behind a leaky ReLU of slope a the dead region's derivatives are those of the linear unit a z, not zero."""
    slope = 0.125  # a power of two, so that both sides round alike
    left = _derivatives(normalizer, case, lambda z: jax.nn.leaky_relu(z, slope), margin=-0.5)
    right = _derivatives(normalizer, case, lambda z: slope * z, margin=-0.5)
    nonzero = jnp.any(right != 0)
    return Comparison(
        left,
        jnp.where(nonzero, right, jnp.nan),
        jnp.max(jnp.abs(right)),
        rounding_bound(jnp.ones((), case.x.dtype), jnp.ones((), case.x.dtype), len(columns(case.x))),
    )


def _derivatives(normalizer: Normalizer, case: Case, activation: Callable, *, margin: float) -> Array:
    """Return gradient and Hessian of the loss in (γ, β), flat."""
    params = _params(case, margin)
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def loss(flat: Array) -> Array:
        return _loss(normalizer, case, activation, unravel(flat))

    return jnp.concatenate([jax.grad(loss)(flat), jax.hessian(loss)(flat).ravel()])


def _params(case: Case, margin: float) -> dict[str, Array]:
    """Return γ and the β that puts each filter's highest entry at `margin · |γ|`."""
    values = closed(columns(case.x), 0.0).values
    highest = jnp.max(case.gamma * values, axis=0)
    return {"scale": case.gamma, "bias": margin * jnp.abs(case.gamma) - highest}


def _loss(normalizer: Normalizer, case: Case, activation: Callable, params: dict[str, Array]) -> Array:
    features = activation(applied(normalizer, case, params)(columns(case.x)))
    return jnp.sum(jnp.sqrt(1 + (features + 1) ** 2) * jnp.abs(columns(case.cotangent)))
