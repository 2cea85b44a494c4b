"""How does a Hessian act on a direction? Exactly, for a few gradients' cost, without being formed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from bnjax.compilation import in_full_precision

ScalarLoss = Callable[[Any], Float[Array, ""]]


def flattened(params: Any) -> tuple[Float[Array, " size"], Callable[[Array], Any]]:
    """Return a tree's numbers as one vector, and the function that makes such a tree of a vector.

    Raises:
        TypeError: a leaf of other than floating-point numbers: a vector has no place in it.
    """
    kinds = {str(jnp.result_type(leaf)) for leaf in jax.tree.leaves(params)}
    if not all(jnp.issubdtype(kind, jnp.floating) for kind in kinds):
        raise TypeError(f"all parameters need to be floating-point numbers, got {', '.join(sorted(kinds))}")
    return ravel_pytree(params)


class LinearizedGradient(NamedTuple):
    """A loss's gradient and Hessian at one point.

    Attributes:
        gradient: ∇L(θ), a tree like θ.
        hessian_product: `direction ↦ ∇²L(θ) direction`, trees like θ. What it needs of the point was computed once, so
            that each product costs about two gradients, where `hessian_vector_product` costs three.
    """

    gradient: Any
    hessian_product: Callable[[Any], Any]


@in_full_precision
def hessian_vector_product(loss: ScalarLoss, params: Any, direction: Any) -> Any:
    """Return ∇²L(θ) · direction, the derivative of the gradient along a direction (forward over reverse).

    Args:
        loss: a function of the parameters alone, such as `batch_loss` returns.
        params: θ, a tree of floating arrays.
        direction: a tree like θ.
    """
    return jax.jvp(jax.grad(loss), (params,), (direction,))[1]


@in_full_precision
def linearized_gradient(loss: ScalarLoss, params: Any) -> LinearizedGradient:
    """Return gradient and Hessian at one point, for many products; arguments as in `hessian_vector_product`.

    Call it inside of the compiled function that uses the products, or pass `hessian_product` to one: it is a tree.
    """
    return LinearizedGradient(*jax.linearize(jax.grad(loss), params))
