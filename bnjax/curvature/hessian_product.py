"""How does a Hessian act on a direction? Exactly, for a few gradients' cost, without being formed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

ScalarLoss = Callable[[Any], Float[Array, ""]]


class LinearizedGradient(NamedTuple):
    """A loss's gradient and Hessian at one point.

    Attributes:
        gradient: ∇L(θ), a tree like θ.
        hessian_product: `direction ↦ ∇²L(θ) direction`, trees like θ. What it needs of the point was computed once, so
            that each product costs about two gradients, where `hessian_vector_product` costs three.
    """

    gradient: Any
    hessian_product: Callable[[Any], Any]


def hessian_vector_product(loss: ScalarLoss, params: Any, direction: Any) -> Any:
    """Return ∇²L(θ) · direction, the derivative of the gradient along a direction (forward over reverse).

    Args:
        loss: a function of the parameters alone, such as `batch_loss` returns.
        params: θ, a tree of floating arrays.
        direction: a tree like θ.
    """
    return jax.jvp(jax.grad(loss), (params,), (direction,))[1]


def linearized_gradient(loss: ScalarLoss, params: Any) -> LinearizedGradient:
    """Return gradient and Hessian at one point, for many products; arguments as in `hessian_vector_product`.

    Call it inside of the compiled function that uses the products, or pass `hessian_product` to one: it is a tree.
    """
    return LinearizedGradient(*jax.linearize(jax.grad(loss), params))
