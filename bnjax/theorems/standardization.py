"""What are the derivatives of a standardization, written out? Closed forms that share no code with the normalizers.

All arrays are (m, d): m values of each of d features. `P = I - 11ᵀ/m` centres a column (docs/theory.md, J and J2).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnjax.normalizers.normalizer import Normalizer, Params
from bnjax.theorems.statement import Case, Comparison, rounding_bound

Columns = Float[Array, "m d"]


class Closed(NamedTuple):
    """The standardization of a batch by its own formula: mean, variance, scale `√(variance + epsilon)` and ŷ."""

    mean: Float[Array, " d"]
    variance: Float[Array, " d"]
    scale: Float[Array, " d"]
    values: Columns


def closed(x: Columns, epsilon: float) -> Closed:
    """Standardize the columns of `x`."""
    mean = jnp.sum(x, axis=0) / len(x)
    variance = jnp.sum((x - mean) ** 2, axis=0) / len(x)
    scale = (variance + epsilon) ** 0.5
    return Closed(mean, variance, scale, (x - mean) / scale)


def centred(columns: Columns) -> Columns:
    """Return `P columns`."""
    return columns - jnp.mean(columns, axis=0)


def jacobian_product(values: Columns, vector: Columns) -> Columns:
    """Return `s J vector = P vector - ŷ (ŷᵀ vector) / m`; sJ is symmetric (docs/theory.md, J)."""
    return centred(vector) - values * jnp.mean(values * vector, axis=0)


def second_derivative(values: Columns, cotangent: Columns, vector: Columns) -> Columns:
    """Return `s² Σ_k G_k ∂²ŷ_k vector` for the cotangent G, for every epsilon (docs/theory.md, J2)."""
    along = jnp.mean(values * vector, axis=0)
    pulled = jnp.mean(cotangent * values, axis=0)
    centred_cotangent, centred_vector = centred(cotangent), centred(vector)
    return -(
        centred_cotangent * along
        + values * jnp.mean(centred_cotangent * vector, axis=0)
        + pulled * (centred_vector - 3 * values * along)
    )


def columns(array: Array) -> Columns:
    """Return an array with features last as (m, d)."""
    return array.reshape(-1, array.shape[-1])


def standardized(normalizer: Normalizer, case: Case):
    """Return `Z ↦ Ŷ(X + S Z)` on columns, with S the scale that the normalizer reports, and S itself, (m, d).

    In these units derivatives are pure numbers.
    """
    _, stats = normalizer.init(case.x)

    def standardize(x: Array):
        return normalizer.standardize(stats, x, mode="batch", key=jax.random.key(0))[0]

    scale = jax.lax.stop_gradient(jnp.broadcast_to(standardize(case.x).scale, case.x.shape))

    def shifted(z: Columns) -> Columns:
        return columns(standardize(case.x + scale * z.reshape(case.x.shape)).values)

    return shifted, columns(scale)


def applied(normalizer: Normalizer, case: Case, params: Params):
    """Return `X ↦ Y`, the whole normalizer with its affine phase, at the level of columns."""
    _, stats = normalizer.init(case.x)

    def apply(x: Columns) -> Columns:
        y, _ = normalizer.apply(params, stats, x.reshape(case.x.shape), key=jax.random.key(0))
        return columns(y)

    return apply


def case_bound(case: Case, scale: Array) -> Float[Array, ""]:
    """Return the rounding bound of a case whose statistics run over the batch."""
    x = columns(case.x)
    return rounding_bound(x, scale, len(x))


def compare(left: Array, right: Array, size: Array, case: Case, scale: Array) -> Comparison:
    """Return the comparison with the case's rounding bound."""
    return Comparison(left, right, size, case_bound(case, scale))
