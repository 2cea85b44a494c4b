"""How sure is the survival of a part whose diagonal is estimated? Unbiased squared norms, and their spread.

The square of a noisy mean is too large. Of k independent fields with the mean G the products of two different ones are
not: `‖G‖² = E[(‖Σ_s G_s‖² - Σ_s ‖G_s‖²) / (k(k-1))]`. The spread is the jackknife's, from leaving out each of the k.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnjax.derivatives.terms import PARTS, SECOND_ORDER, TERM_PARTS, Terms
from bnjax.derivatives.transport import pull_back
from bnjax.normalizers.moments import statistics_dtype
from bnjax.parts import Part
from bnjax.problem import Problem

CONFIDENCE = 0.95
# The parts of `TERM_PARTS` that are estimated.
ESTIMATED = slice(TERM_PARTS.index((SECOND_ORDER[0], PARTS[0])), TERM_PARTS.index((SECOND_ORDER[-1], PARTS[-1])) + 1)
# What a sample of each consists of: the diagonal's own, of the total and of the shared part, and the whole of second
# order, likewise. The off-diagonal is the whole less the diagonal.
MADE_OF = (
    (1.0, 0.0, 0.0, 0.0),
    (0.0, 1.0, 0.0, 0.0),
    (1.0, -1.0, 0.0, 0.0),
    (-1.0, 0.0, 1.0, 0.0),
    (0.0, -1.0, 0.0, 1.0),
    (-1.0, 1.0, 1.0, -1.0),
)


class SquaredNorms(NamedTuple):
    """Squared norms of p fields, each known from k samples.

    Attributes:
        unit: what the fields were divided by before they were squared.
        estimate: without bias, in squared units.
        without: estimates that leave out each of the samples.
        of_samples: the mean of those of the samples, larger by their variance.
    """

    unit: Float[Array, ""]
    estimate: Float[Array, " p"]
    without: Float[Array, "p k"]
    of_samples: Float[Array, " p"]

    def norms(self) -> Float[Array, " p"]:
        """Return the roots, 0 where an estimate is negative."""
        return self.unit * jnp.sqrt(jnp.maximum(self.estimate, 0))


def with_intervals(problem: Problem, stacked: Part, split: Terms, rounding: Float[Array, " p"]) -> Part:
    """Return stacked parts with norms and survivals of those that are estimated, and intervals of the survivals.

    A survival is the root of the ratio of two squared norms. The interval is that of the ratio, as many of its
    deviations to both sides as Student's distribution says. Where an output gradient's size is not told apart from zero
    the survival is NaN and the interval [0, ∞); where there is no gradient, or the part is exact, the interval is NaN.

    Args:
        problem: the batch and the normalizer.
        stacked: the parts in the order of `TERM_PARTS`, and whatever follows.
        split: the terms, with `diagonal_samples`.
        rounding: norms up to which the gradients count as zero, of the same parts.
    """
    # Importing it takes three times as long as all of bnjax, of which this alone needs it.
    from scipy.special import stdtrit

    at_output = _fields(split)
    at_input = pull_back(problem.standardization, problem.x, at_output)
    unscaled = problem.standardized(problem.x).scale * at_input
    before, arrived, through = map(_squared_norms, (at_output, at_input, unscaled))
    quantile = float(stdtrit(before.without.shape[-1] - 1, (1 + CONFIDENCE) / 2))
    is_zero = before.unit * jnp.sqrt(before.of_samples) <= rounding[ESTIMATED]
    exists = (before.estimate > quantile * _deviation(before.without)) & ~is_zero
    size = jnp.where(exists, before.estimate, 1.0)
    ratio = through.estimate / size
    # To first order: a ratio that leaves out a sample divides by what may be close to zero.
    reach = quantile * _deviation(through.without - ratio[:, None] * before.without) / size
    low, survival, high = (
        through.unit / before.unit * jnp.sqrt(jnp.maximum(value, 0)) for value in (ratio - reach, ratio, ratio + reach)
    )
    unknown = jnp.where(is_zero[:, None], jnp.nan, jnp.array([0.0, jnp.inf]))
    interval = jnp.where(exists[:, None], jnp.stack([low, high], axis=-1), unknown)

    def with_estimates(exact: Array, estimates: Array) -> Array:
        return exact.at[ESTIMATED].set(estimates.astype(exact.dtype))

    no_interval = jnp.full((*stacked.survival.shape, 2), jnp.nan, stacked.survival.dtype)
    return replace(
        stacked,
        gradient_norm_output=with_estimates(stacked.gradient_norm_output, before.norms()),
        gradient_norm_input=with_estimates(stacked.gradient_norm_input, arrived.norms()),
        survival=with_estimates(stacked.survival, jnp.where(exists, survival, jnp.nan)),
        survival_interval=with_estimates(no_interval, interval),
    )


def _fields(split: Terms) -> Float[Array, "fields n ..."]:
    """Return what the estimated parts consist of: the samples of the diagonal, and the whole of second order.

    That is k fields of the total and k of the shared part, and then one of each.
    """
    assert split.diagonal_samples is not None
    second = [
        sum(split.gradients[TERM_PARTS.index((term, part))] for term in SECOND_ORDER) for part in ("total", "shared")
    ]
    samples = split.diagonal_samples
    return jnp.concatenate([samples.reshape(-1, *samples.shape[2:]), jnp.stack(second)])


def _squared_norms(fields: Float[Array, "fields n ..."]) -> SquaredNorms:
    """Return those of the estimated parts, from the products of all pairs of `_fields`."""
    fields = fields.astype(statistics_dtype(fields.dtype))
    largest = jnp.max(jnp.abs(fields))
    unit = jnp.where(largest > 0, largest, 1.0)
    fields = (fields / unit).reshape(len(fields), -1)
    count = len(fields) // 2 - 1
    total, shared, second, second_shared = jnp.split(fields, (count, 2 * count, 2 * count + 1))

    # A sample is put together before it is squared: of squares a difference would lose twice the digits.
    def products(made_of: Float[Array, " 4"]) -> Float[Array, "k k"]:
        samples = made_of[0] * total + made_of[1] * shared + made_of[2] * second + made_of[3] * second_shared
        return jnp.matmul(samples, samples.T, precision="highest")

    pairs = jax.lax.map(products, jnp.array(MADE_OF, fields.dtype))
    own = jnp.diagonal(pairs, axis1=1, axis2=2)
    whole, of_row, of_own = jnp.sum(pairs, axis=(1, 2)), jnp.sum(pairs, axis=2), jnp.sum(own, axis=1)
    without = (whole - of_own)[:, None] - 2 * (of_row - own)
    return SquaredNorms(
        unit=unit,
        estimate=(whole - of_own) / (count * (count - 1)),
        without=without / ((count - 1) * (count - 2)),
        of_samples=of_own / count,
    )


def _deviation(without: Float[Array, "p k"]) -> Float[Array, " p"]:
    """Return the jackknife's standard deviation of estimates, from those that leave out one sample."""
    count = without.shape[-1]
    around = without - jnp.mean(without, axis=-1, keepdims=True)
    return jnp.sqrt((count - 1) / count * jnp.sum(jnp.square(around), axis=-1))
