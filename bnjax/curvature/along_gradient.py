"""What does a loss do along its own gradient? Its range, the gradient's change, and the curvature, at one point."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float

from bnjax.compilation import in_full_precision
from bnjax.curvature.hessian_product import ScalarLoss
from bnjax.derivatives.norms import over_largest, tree_norm
from bnjax.integers import check_integers


class AlongGradient(NamedTuple):
    """A loss and its gradient at θ - η g for several step sizes η, with g = ∇L(θ) (arXiv 1805.11604, section 3.1).

    Attributes:
        loss: L(θ).
        gradient_norm: ‖g‖.
        losses: L(θ - η g).
        gradient_distances: ‖∇L(θ - η g) - g‖, the paper's gradient predictiveness.
        smoothness: ‖∇L(θ - η g) - g‖ / ‖η g‖, with η g as far as θ moves in its precision; its largest is the paper's
            effective β-smoothness. NaN where θ does not move: g = 0, or η g is less than the rounding of θ.
    """

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    losses: Float[Array, " step_sizes"]
    gradient_distances: Float[Array, " step_sizes"]
    smoothness: Float[Array, " step_sizes"]


@in_full_precision
def along_gradient(
    loss: ScalarLoss, params: Any, step_sizes: Float[ArrayLike, " step_sizes"] | Sequence[float], *, at_once: int = 1
) -> AlongGradient:
    """Return loss and gradient at several points along the gradient, for one more gradient than there are step sizes.

    Args:
        loss: a function of the parameters alone, such as `batch_loss` returns.
        params: θ.
        step_sizes: η, positive; an array or a list.
        at_once: how many of the points are computed side by side, each in the memory of one gradient.

    Raises:
        TypeError: `at_once` is no integer.
        ValueError: `at_once` < 1, or step sizes that are not one axis of one or more.
    """
    check_integers(at_once=at_once)
    if at_once < 1:
        raise ValueError(f"at_once needs to be at least 1, got {at_once}")
    step_sizes = jnp.asarray(step_sizes)
    if step_sizes.ndim != 1 or not step_sizes.size:
        raise ValueError(f"step_sizes needs one axis of one or more numbers, got shape {step_sizes.shape}")
    value_and_gradient = jax.value_and_grad(loss)
    value, gradient = value_and_gradient(params)

    def at(step_size: Array) -> tuple[Array, Array, Array]:
        moved = jax.tree.map(lambda leaf, slope: (leaf - step_size * slope).astype(slope.dtype), params, gradient)
        there, other = value_and_gradient(moved)
        return there, tree_norm(optax.tree.sub(other, gradient)), tree_norm(optax.tree.sub(moved, params))

    losses, distances, steps = jax.lax.map(at, step_sizes, batch_size=min(at_once, len(step_sizes)))
    return AlongGradient(value, tree_norm(gradient), losses, distances, distances / steps)


@in_full_precision
def curvature_along_gradient(loss: ScalarLoss, params: Any) -> Float[Array, ""]:
    """Return the exact `gᵀ H g / ‖g‖²`, which `smoothness` approaches from above as η → 0 (it has ‖H g‖ / ‖g‖).

    NaN where g = 0. Arguments as in `along_gradient`.
    """
    gradient_of = jax.grad(loss)
    direction = over_largest(gradient_of(params))
    _, product = jax.jvp(gradient_of, (params,), (direction,))
    return jnp.asarray(optax.tree.vdot(direction, product) / optax.tree.vdot(direction, direction))
