"""Do other norms than that of batch normalization smooth the loss as well?

    python -m experiments.lp_norms
    python -m experiments.lp_norms --preset paper --data-dir DIR

`experiments.smoothness` with ℓ1, ℓ2 and ℓ∞ normalization: features are centred and divided by their mean absolute
value, by the root of their mean square, or by their largest absolute value (arXiv 1805.11604, section 3.3).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from experiments import smoothness
from experiments.claims.trajectory import (
    COVARIATE_SHIFT,
    LANDSCAPE,
    LOSS,
    PREDICTIVENESS,
    SMOOTHNESS,
    trajectory_claims,
)
from experiments.common.claim import Claim
from experiments.common.command import main
from experiments.common.networks import NormalizerName
from experiments.common.trajectory import failures, summary

figures = smoothness.figures


@dataclass(frozen=True)
class Config(smoothness.Config):
    """Follow loss, gradient and curvature while a network is trained with ℓp norms in place of the deviation."""

    normalizers: tuple[NormalizerName, ...] = ("none", "batch_norm", "l1_norm", "linf_norm")
    """The normalizers to compare; the ℓ2 norm is that of batch normalization."""

    def smoke_sized(self) -> Self:
        """Return a run of seconds."""
        return dataclasses.replace(super().smoke_sized(), normalizers=("batch_norm", "l1_norm"))


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of all norms, that of batch normalization among them."""
    places = dict.fromkeys((LOSS, LANDSCAPE, PREDICTIVENESS, SMOOTHNESS, COVARIATE_SHIFT), "section 3.3")
    return trajectory_claims(
        results, config, "With ℓ1, ℓ2 or ℓ∞ normalization", places, ("l1_norm", "batch_norm", "linf_norm")
    )


if __name__ == "__main__":
    main(
        smoothness.run,
        Config,
        name="experiments.lp_norms",
        figures=figures,
        failures=failures,
        claims=claims,
        summary=summary,
        sooner=True,
    )
