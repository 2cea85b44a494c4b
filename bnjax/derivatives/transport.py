"""What arrives before the normalizer? Gradients and Hessians of terms carried back through its standardization.

A term with the gradient field `G(Ŷ)` has at the normalizer's input the gradient `Jᵀ G(Ŷ(X))`; its Hessian there is the
derivative of that along X, `Jᵀ H_Y J + Σ_k G_k ∂²ŷ_k` (docs/theory.md, T6), and is never formed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from bnjax.derivatives.norms import norms

Standardization = Callable[[Array], Array]
GradientFields = Callable[[Array], Array]

DENSE_LIMIT = 4096


class LinearizedFields(NamedTuple):
    """The gradient fields of p stacked terms, to first order around one Ŷ: exact for gradients and Hessians there.

    Computed once, they serve every normalizer and both sides of it; a pytree.

    Attributes:
        standardized: Ŷ, of shape (n, *row).
        gradients: the fields at Ŷ, of shape (p, n, *row).
        product: the products with the p Hessians, from the shape of Ŷ to that of the gradients.
    """

    standardized: Float[Array, "n ..."]
    gradients: Float[Array, "p n ..."]
    product: Callable[[Array], Array]

    def __call__(self, standardized: Float[Array, "n ..."]) -> Float[Array, "p n ..."]:
        """Return the fields at a point, right to first order in its distance from Ŷ."""
        return self.gradients + self.product(standardized - self.standardized)


def pull_back(
    standardization: Standardization, x: Float[Array, "n ..."], gradients: Float[Array, "p n ..."]
) -> Float[Array, "p n ..."]:
    """Return `Jᵀ G` for each of p stacked gradients `G` at the standardization's output, J its derivative at `x`."""
    y, transpose = jax.vjp(standardization, x)
    # A head may compute in another precision than the features have.
    return jax.vmap(lambda gradient: transpose(gradient)[0])(gradients.astype(y.dtype))


def pulled_back(standardization: Standardization, fields: GradientFields) -> GradientFields:
    """Return the fields at a standardization's input, `X ↦ J(X)ᵀ G(Ŷ(X))`, of p stacked fields at its output."""
    return lambda x: pull_back(standardization, x, fields(standardization(x)))


def input_hessian_norms(
    fields_at_input: GradientFields, x: Float[Array, "n ..."], *, chunk: int = 64
) -> Float[Array, " p"]:
    """Return `‖H_X‖_F` of p stacked terms, by all n·D columns, `chunk` at once; memory is p · chunk batches."""
    _, product = jax.linearize(fields_at_input, x)
    return _column_norms(lambda column: product(column.reshape(x.shape)), x.size, x.dtype, chunk)


def output_hessian_norms(
    fields: GradientFields, standardized: Float[Array, "n ..."], *, chunk: int = 64
) -> Float[Array, " p"]:
    """Return `‖H_Y‖_F` of p stacked terms that are sums over rows: D columns, each for all rows together."""
    _, product = jax.linearize(fields, standardized)

    def for_all_rows(column: Array) -> Array:
        return product(jnp.broadcast_to(column.reshape(standardized.shape[1:]), standardized.shape))

    return _column_norms(for_all_rows, standardized[0].size, standardized.dtype, chunk)


def _column_norms(product: Callable[[Array], Array], size: int, dtype: jnp.dtype, chunk: int) -> Array:
    def of_column(column: Array) -> Array:
        return norms(product(jnp.zeros(size, dtype).at[column].set(1.0)))

    return norms(jax.lax.map(of_column, jnp.arange(size), batch_size=chunk).T)


@dataclass(frozen=True, repr=False)
class HessianOperator:
    """A symmetric matrix over a flattened batch, as its products.

    Attributes:
        matvec: `vector -> H vector`, both of shape (size,).
        size: the length of the flattened batch.
        dtype: the dtype of the products.
    """

    matvec: Callable[[Array], Array]
    size: int
    dtype: jnp.dtype

    def __repr__(self) -> str:
        """Return shape and dtype."""
        return f"HessianOperator({self.size}×{self.size}, {jnp.dtype(self.dtype).name})"

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the matrix."""
        return self.size, self.size

    def __matmul__(self, other: ArrayLike) -> Array:
        """Return the product with a vector (size,) or a matrix (size, m)."""
        other = jnp.asarray(other)
        if jnp.iscomplexobj(other):
            raise TypeError(f"the Hessian needs a real vector or matrix, got dtype {other.dtype}; pass its two parts")
        if other.ndim not in (1, 2) or other.shape[0] != self.size:
            raise ValueError(
                f"the Hessian of shape {self.shape} over a flattened batch needs ({self.size},) or ({self.size}, m), "
                f"got {other.shape}; flatten a batch with .ravel()"
            )
        other = other.astype(self.dtype)
        return self.matvec(other) if other.ndim == 1 else jax.vmap(self.matvec, in_axes=1, out_axes=1)(other)

    def dense(self) -> Float[Array, "size size"]:
        """Return the matrix itself.

        Raises:
            ValueError: it has more than `DENSE_LIMIT` rows.
        """
        if self.size > DENSE_LIMIT:
            raise ValueError(
                f"a dense Hessian needs at most {DENSE_LIMIT} rows, got {self.size}; use products (`@`), fewer rows or "
                "fewer features"
            )
        return jax.lax.map(self.matvec, jnp.eye(self.size, dtype=self.dtype), batch_size=64).T
