"""How much of a part of the loss survives the way back? The measured parts that all reports are made of."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from bnjax.derivatives.norms import norms as gradient_norms
from bnjax.derivatives.transport import pull_back
from bnjax.problem import Problem

# The reasons reported beside a survival that does not exist: its denominator is zero to rounding, or there is none.
NO_GRADIENT = "no gradient at the output"
NOT_FINITE = "gradient not finite"
TOO_FEW_PRODUCTS = "too few products to tell the gradient from zero"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Part:
    """A part of the loss on both sides of a normalizer; a pytree.

    Attributes:
        value: its sum over the rows.
        output_gradient: its gradient with respect to the standardized features Ŷ, in the shape of x.
        input_gradient: that gradient carried back to the normalizer's input X, in the shape of x.
        gradient_norm_output: ‖G‖_F of the output gradient G.
        gradient_norm_input: ‖JᵀG‖_F of the input gradient.
        survival: `‖S Jᵀ G‖_F / ‖G‖_F` with `G` the output gradient and `S` the scale that the normalizer divides by;
            NaN where G is zero to rounding. Not clipped: an oblique normalizer can exceed 1 (docs/theory.md, setting).
        survival_interval: low and high, where the 95 % confidence interval of an estimated survival ends; NaN for an
            exact part, None where all are exact.
        hessian_norm_output: ‖∂²/∂Ŷ²‖_F, or None where it was not asked for.
        hessian_norm_input: ‖∂²/∂X²‖_F, or None where it was not asked for.
    """

    value: Float[Array, "..."]
    output_gradient: Float[Array, "..."]
    input_gradient: Float[Array, "..."]
    gradient_norm_output: Float[Array, "..."]
    gradient_norm_input: Float[Array, "..."]
    survival: Float[Array, "..."]
    survival_interval: Float[Array, "... 2"] | None = None
    hessian_norm_output: Float[Array, "..."] | None = None
    hessian_norm_input: Float[Array, "..."] | None = None

    def to_row(self) -> dict:
        """Return the part's numbers as a flat table row; a survival that does not exist is None, with a `reason`."""
        survival, norm = float(self.survival), float(self.gradient_norm_output)
        row: dict[str, Any] = {
            "value": float(self.value),
            "gradient_norm_output": norm,
            "gradient_norm_input": float(self.gradient_norm_input),
        }
        if self.hessian_norm_output is not None and self.hessian_norm_input is not None:
            row["hessian_norm_output"] = float(self.hessian_norm_output)
            row["hessian_norm_input"] = float(self.hessian_norm_input)
        row["survival"], reason = survival, ""
        if math.isnan(survival):
            row["survival"], reason = None, NO_GRADIENT if math.isfinite(norm) else NOT_FINITE
        if self.survival_interval is not None:
            low, high = map(float, self.survival_interval)
            reason = TOO_FEW_PRODUCTS if math.isinf(high) else reason
            row["survival_low"], row["survival_high"] = (end if math.isfinite(end) else None for end in (low, high))
        return {**row, "reason": reason}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SplitPart(Part):
    """A part (its total), with what all rows share of it and what is individual; both None for a remainder."""

    shared: Part | None = None
    individual: Part | None = None

    def to_rows(self) -> list[dict]:
        """Return a row for the total and, where they exist, for `shared` and `individual`."""
        parts = {"shared": self.shared, "individual": self.individual, "total": self}
        return [{"part": name, **part.to_row()} for name, part in parts.items() if part is not None]


def carry_back(
    problem: Problem,
    values: Float[Array, " p"],
    output_gradients: Float[Array, "p n ..."],
    rounding: Float[Array, " p"],
) -> Part:
    """Return p parts, stacked along the first axis of each array, from their values and output gradients.

    A gradient of a norm up to `rounding` counts as zero: its survival is NaN.
    """
    arrived = pull_back(problem.standardization, problem.x, output_gradients)
    unscaled = problem.standardized(problem.x).scale * arrived
    norms, arrived_norms, unscaled_norms = map(gradient_norms, (output_gradients, arrived, unscaled))
    exists = norms > rounding
    return Part(
        value=values,
        output_gradient=output_gradients,
        input_gradient=arrived,
        gradient_norm_output=norms,
        gradient_norm_input=arrived_norms,
        survival=jnp.where(exists, unscaled_norms / jnp.where(exists, norms, 1.0), jnp.nan),
    )


def split_part(stacked: Part, total: int, shared: int | None = None, individual: int | None = None) -> SplitPart:
    """Return the stacked part number `total` together with those numbered `shared` and `individual`."""

    def pick(index: int | None) -> Part | None:
        return None if index is None else _part_at(stacked, index)

    return SplitPart(**vars(_part_at(stacked, total)), shared=pick(shared), individual=pick(individual))


# Compiled once for all numbers: in the program that makes the parts it would take longer to compile than they do.
@jax.jit
def _part_at(stacked: Part, index: ArrayLike) -> Part:
    return jax.tree.map(lambda leaf: leaf[index], stacked)
