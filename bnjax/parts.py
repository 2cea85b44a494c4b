"""How much of a part of the loss survives the way back? The measured parts that all reports are made of."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnjax.derivatives.transport import pull_back
from bnjax.problem import Problem

# The reasons reported beside a survival that does not exist: its denominator is zero to rounding, or there is none.
NO_GRADIENT = "no gradient at the output"
NOT_FINITE = "gradient not finite"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Part:
    """A part of the loss on both sides of a normalizer; a pytree.

    Attributes:
        value: its sum over the rows.
        output_gradient: its gradient with respect to the standardized features Ŷ, in the shape of x.
        input_gradient: that gradient carried back to the normalizer's input X, in the shape of x.
        survival: `‖S Jᵀ G‖_F / ‖G‖_F` with `G` the output gradient and `S` the scale that the normalizer divides by;
            NaN where G is zero to rounding. Not clipped: an oblique normalizer can exceed 1 (docs/theory.md, setting).
        hessian_norm_output: ‖∂²/∂Ŷ²‖_F, or None where it was not asked for.
        hessian_norm_input: ‖∂²/∂X²‖_F, or None where it was not asked for.
    """

    value: Float[Array, ""]
    output_gradient: Float[Array, "n ..."]
    input_gradient: Float[Array, "n ..."]
    survival: Float[Array, ""]
    hessian_norm_output: Float[Array, ""] | None = None
    hessian_norm_input: Float[Array, ""] | None = None

    @property
    def gradient_norm_output(self) -> Float[Array, ""]:
        """‖G‖_F at the normalizer's output."""
        return jnp.linalg.norm(self.output_gradient.ravel())

    @property
    def gradient_norm_input(self) -> Float[Array, ""]:
        """‖JᵀG‖_F at the normalizer's input."""
        return jnp.linalg.norm(self.input_gradient.ravel())

    def to_row(self) -> dict:
        """Return the part's numbers as a flat table row; a survival that does not exist is None, with a `reason`."""
        survival, norm = float(self.survival), float(self.gradient_norm_output)
        row = {
            "value": float(self.value),
            "gradient_norm_output": norm,
            "gradient_norm_input": float(self.gradient_norm_input),
        }
        if self.hessian_norm_output is not None and self.hessian_norm_input is not None:
            row["hessian_norm_output"] = float(self.hessian_norm_output)
            row["hessian_norm_input"] = float(self.hessian_norm_input)
        if math.isnan(survival):
            return {**row, "survival": None, "reason": NO_GRADIENT if math.isfinite(norm) else NOT_FINITE}
        return {**row, "survival": survival, "reason": ""}


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


class CarriedBack(NamedTuple):
    """What arrives of p stacked gradients.

    Attributes:
        input_gradients: JᵀG, of shape (p, n, *row).
        survivals: `‖S JᵀG‖ / ‖G‖`, NaN where G is zero to rounding, of shape (p,).
    """

    input_gradients: Float[Array, "p n ..."]
    survivals: Float[Array, " p"]


@jax.jit
def carry_back(
    problem: Problem, output_gradients: Float[Array, "p n ..."], rounding: Float[Array, " p"]
) -> CarriedBack:
    """Carry p stacked gradients back through the normalizer; those of norms up to `rounding` count as zero."""
    arrived = pull_back(problem.standardization, problem.x, output_gradients)
    axes = tuple(range(1, output_gradients.ndim))
    norms = jnp.sqrt(jnp.sum(jnp.square(output_gradients), axis=axes))
    unscaled = problem.standardized(problem.x).scale * arrived
    arrived_norms = jnp.sqrt(jnp.sum(jnp.square(unscaled), axis=axes))
    exists = norms > rounding
    return CarriedBack(arrived, jnp.where(exists, arrived_norms / jnp.where(exists, norms, 1.0), jnp.nan))
