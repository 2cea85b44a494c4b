"""What does a loss do along its own gradient? Its range, the gradient's change, and the curvature, at one point."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bnjax.compilation import in_full_precision
from bnjax.curvature.hessian_product import ScalarLoss


class AlongGradient(NamedTuple):
    """A loss and its gradient at θ - η g for several step sizes η, with g = ∇L(θ) (arXiv 1805.11604, section 3.1).

    Attributes:
        loss: L(θ).
        gradient_norm: ‖g‖.
        losses: L(θ - η g).
        gradient_distances: ‖∇L(θ - η g) - g‖, the paper's gradient predictiveness.
        smoothness: ‖∇L(θ - η g) - g‖ / ‖η g‖; its largest is the paper's effective β-smoothness. NaN where g = 0.
    """

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    losses: Float[Array, " step_sizes"]
    gradient_distances: Float[Array, " step_sizes"]
    smoothness: Float[Array, " step_sizes"]


@in_full_precision
def along_gradient(
    loss: ScalarLoss, params: Any, step_sizes: Float[Array, " step_sizes"], *, at_once: int = 1
) -> AlongGradient:
    """Return loss and gradient at several points along the gradient, for one more gradient than there are step sizes.

    Args:
        loss: a function of the parameters alone, such as `batch_loss` returns.
        params: θ.
        step_sizes: η, positive.
        at_once: how many of the points are computed side by side, each in the memory of one gradient.
    """
    value_and_gradient = jax.value_and_grad(loss)
    value, gradient = value_and_gradient(params)
    norm = optax.tree.norm(gradient)

    def at(step_size: Array) -> tuple[Array, Array]:
        moved = jax.tree.map(lambda leaf, slope: leaf - step_size * slope, params, gradient)
        there, other = value_and_gradient(moved)
        return there, optax.tree.norm(optax.tree.sub(other, gradient))

    losses, distances = jax.lax.map(at, step_sizes, batch_size=min(at_once, len(step_sizes)))
    return AlongGradient(value, norm, losses, distances, distances / (step_sizes * norm))


@in_full_precision
def curvature_along_gradient(loss: ScalarLoss, params: Any) -> Float[Array, ""]:
    """Return the exact `gᵀ H g / ‖g‖²`, which `smoothness` approaches from above as η → 0 (it has ‖H g‖ / ‖g‖).

    NaN where g = 0. Arguments as in `along_gradient`.
    """
    gradient_of = jax.grad(loss)
    gradient = gradient_of(params)
    _, product = jax.jvp(gradient_of, (params,), (gradient,))
    return jnp.asarray(optax.tree.vdot(gradient, product) / optax.tree.vdot(gradient, gradient))
