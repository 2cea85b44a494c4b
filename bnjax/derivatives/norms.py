"""How large is a gradient? Frobenius norms that neither overflow nor vanish, with a derivative also at zero."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def norms(stacked: Float[Array, "p ..."]) -> Float[Array, " p"]:
    """Return the Frobenius norm of each of p stacked arrays.

    The entries are scaled before they are squared. At an array of zeros the derivative is 0. The norm of
    an array with an infinite entry is NaN.
    """
    axes = tuple(range(1, stacked.ndim))
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(stacked), axis=axes, keepdims=True))
    unit = jnp.where(largest > 0, largest, 1.0)
    squares = jnp.sum(jnp.square(stacked / unit), axis=axes)
    zero = squares == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squares))) * unit.ravel()
