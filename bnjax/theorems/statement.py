"""What is a checked statement? Two sides computed in two ways, and what rounding allows between them."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from bnjax.normalizers.normalizer import Normalizer


class Case(NamedTuple):
    """The random numbers that a statement is tried on; features last, everything else counts as batch.

    Attributes:
        x: features before the normalizer, of shape (n, d) or (n, h, w, d).
        direction: a direction in the space of x, in units of each feature's own scale.
        cotangent: a gradient at the normalizer's output, in the shape of x.
        mixing: an m × m matrix, m = x.size / d, that couples the rows of a loss.
        coefficients: one number a feature, such as a shared gradient or a shared diagonal.
        gamma: the affine scale, one number a feature, of either sign and away from 0.
        beta: the affine bias, one number a feature.
        inputs: the input of a linear layer before the normalizer, m × q.
        weights: the weights of that layer, q × d.
        other_weights: other weights of it, q × d.
    """

    x: Float[Array, "n ..."]
    direction: Float[Array, "n ..."]
    cotangent: Float[Array, "n ..."]
    mixing: Float[Array, "m m"]
    coefficients: Float[Array, " d"]
    gamma: Float[Array, " d"]
    beta: Float[Array, " d"]
    inputs: Float[Array, "m q"]
    weights: Float[Array, "q d"]
    other_weights: Float[Array, "q d"]


class Comparison(NamedTuple):
    """Both sides of a statement on one case.

    Attributes:
        left: the side that goes through the normalizer and automatic differentiation.
        right: the side of the formula.
        size: what errors are measured against: the size of the numbers that both sides are sums of.
        bound: how far the sides may differ relative to `size`, by rounding alone (docs/theory.md, rounding).
        applies: where the statement's hypothesis holds; elsewhere nothing is compared.
    """

    left: Array
    right: Array
    size: Array
    bound: Array
    applies: Array | bool = True

    def error(self) -> Float[Array, ""]:
        """Return `max |left - right| / size` where the statement applies, 0 if it does nowhere."""
        return jnp.max(jnp.where(self.applies, jnp.abs(self.left - self.right) / self.size, 0.0))

    def excess(self) -> Float[Array, ""]:
        """Return `max (left - right) / size`, by how much `left ≤ right` is missed, with 0 where it does not apply."""
        return jnp.max(jnp.where(self.applies, (self.left - self.right) / self.size, 0.0))


class Statement(NamedTuple):
    """A numbered statement of docs/theory.md.

    Attributes:
        name: its number there.
        claim: what it says, in a line.
        check: `check(normalizer, case) -> Comparison`.
        normalizer: the normalizer that it is about.
        broken: a normalizer that it does not hold for, to see that the check can fail.
        relation: whether the left side equals the right one or is at most it.
        form: `derived` for what docs/theory.md proves, `printed` for what a paper prints.
    """

    name: str
    claim: str
    check: Callable[[Normalizer, Case], Comparison]
    normalizer: Normalizer
    broken: Normalizer
    relation: Literal["=", "<="] = "="
    form: Literal["derived", "printed"] = "derived"


def draw_case(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Case:
    """Draw a random case; the features' means are up to 100 times their standard deviations, which span 10⁻² to 10².

    Args:
        key: what it is drawn from.
        shape: that of the batch `x`, with the features last.
        dtype: that of all arrays.
    """
    keys = iter(jax.random.split(key, 16))
    *batch, features = shape
    m, inputs = math.prod(batch), 4

    def normal(*dimensions: int) -> Array:
        return jax.random.normal(next(keys), dimensions, dtype)

    def power_of_ten(low: float, high: float) -> Array:
        return 10 ** jax.random.uniform(next(keys), (features,), dtype, low, high)

    deviation = power_of_ten(-2, 2)
    offset = power_of_ten(-2, 2) * jnp.sign(normal(features))
    return Case(
        x=deviation * (normal(*shape) + offset),
        direction=normal(*shape),
        cotangent=normal(*shape),
        mixing=normal(m, m) / jnp.sqrt(m).astype(dtype),
        coefficients=normal(features),
        gamma=jnp.sign(normal(features)) * power_of_ten(-1, 1),
        beta=normal(features),
        inputs=normal(m, inputs),
        weights=normal(inputs, features),
        other_weights=normal(inputs, features),
    )


def rounding_bound(x: Array, scale: Array, entries: int) -> Float[Array, ""]:
    """Return `4 u (log₂ entries + 2) κ` with the precision u and the condition `κ = 1 + max |x| / scale`.

    In units of the features' own scale every derivative of a standardization is a polynomial in ŷ, whose relative error
    is that of `x - mean` against the scale (docs/theory.md, rounding).
    """
    condition = 1 + jnp.max(jnp.abs(x) / scale)
    return 4 * jnp.finfo(x.dtype).eps * (jnp.log2(entries) + 2) * condition
