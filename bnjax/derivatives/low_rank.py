"""What is the exact Hessian of a loss behind piecewise-linear logits, without a D × D matrix?

For `ℓ(y) = outer(z(y))` with piecewise-linear logits `z` the Hessian is `H = Jᵀ A J` with the k × D Jacobian `J` of the
logits and the k × k Hessian `A` of `outer`; the second derivative of `z` is zero (docs/theory.md, low-rank form).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnjax.derivatives.heads import LogitsHead


class LowRankHessian(NamedTuple):
    """`H = Jᵀ A J` of one row, as its two factors.

    Attributes:
        jacobian: J, of shape (k, *row).
        core: A, symmetric, of shape (k, k).
    """

    jacobian: Float[Array, "k ..."]
    core: Float[Array, "k k"]

    def diagonal(self) -> Float[Array, "..."]:
        """Return `h_dd = Σ_a J_ad (A J)_ad`, in the shape of a row; cost O(k²D), memory that of the row."""

        # Row by row of J: of many Hessians with one J, each step is one matrix product, and A J is never kept.
        def add(total: Array, factors: tuple[Array, Array]) -> tuple[Array, None]:
            row, weights = factors
            return total + row * jnp.tensordot(weights, self.jacobian, axes=1), None

        nothing = jnp.zeros(self.jacobian.shape[1:], jnp.result_type(self.jacobian, self.core))
        return jax.lax.scan(add, nothing, (self.jacobian, self.core))[0]

    def product(self, vector: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return `H vector`, in the shape of a row; cost O(kD)."""
        logits_change = jnp.tensordot(self.jacobian, vector, axes=vector.ndim)
        return jnp.tensordot(self.core @ logits_change, self.jacobian, axes=1)


def low_rank_hessian(head: LogitsHead, point: Float[Array, "..."], *row_arguments: Any) -> LowRankHessian:
    """Return the Hessian of `head` at one row, exact where the logits are piecewise linear; k reverse passes.

    Args:
        head: the loss of a row by its k logits, an array of any shape.
        point: the row.
        row_arguments: what else `head` takes for this row, such as its label.
    """
    logits_of, outer = head.of_row(*row_arguments)
    logits, pull_back = jax.vjp(logits_of, point)
    k = logits.size
    (jacobian,) = jax.vmap(pull_back)(jnp.eye(k, dtype=logits.dtype).reshape(k, *logits.shape))
    return LowRankHessian(jacobian, jax.hessian(outer)(logits).reshape(k, k))


def mean_product(hessians: LowRankHessian, vector: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return `mean_i(H_i) vector` of n Hessians whose factors are stacked; cost O(nkD)."""
    jacobians, cores = hessians
    logits_changes = jnp.tensordot(jacobians, vector, axes=vector.ndim)
    return jnp.tensordot(jnp.einsum("nab,nb->na", cores, logits_changes), jacobians, axes=2) / len(cores)
