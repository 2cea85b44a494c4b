"""What does a trajectory say of the claims of arXiv 1805.11604? From the tests of `trajectory` to claims."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.claims.tested import claim_of_tests, comparisons
from experiments.common.claim import OPTIMIZATION, Claim

THEOREM = "theorem 4.2 (there in the outputs of one layer)"
DEFINITION = "definition 2.1"
# Measures of a trajectory, by what is claimed of them.
LANDSCAPE, PREDICTIVENESS, SMOOTHNESS = ("loss_range",), ("distance_max",), ("smoothness",)
LOSS, CURVATURE, COVARIATE_SHIFT = ("loss",), ("curvature",), ("distance", "cosine")
SENTENCES = {
    LOSS: "the loss falls faster in training",
    LANDSCAPE: "the loss changes less along its gradient",
    PREDICTIVENESS: "the gradient changes less along itself: it predicts better",
    SMOOTHNESS: "the gradient changes less for the length of a step: the effective β is smaller",
    CURVATURE: "the curvature along the gradient is smaller",
    COVARIATE_SHIFT: "covariate shift is not smaller: the gradients of layers change and turn no less when the layers "
    "before them take a step",
}


def trajectory_claims(
    results: dict[str, Any],
    config: dict[str, Any],
    subject: str,
    places: Mapping[tuple[str, ...], str],
    normalizers: Sequence[str] = ("batch_norm",),
) -> list[Claim]:
    """Return what was found of normalizers beside none.

    Args:
        results: what `experiments.common.trajectory.followed` returns.
        config: of the run.
        subject: how the claims begin, such as "With batch normalization".
        places: where the paper says what, by the keys of `SENTENCES`.
        normalizers: those that the claims are about; of a run without them, or without `none` before them, nothing is
            claimed.
    """

    def tests_of(*measures: str) -> list[dict[str, Any]]:
        return [test for name in normalizers for test in comparisons(results, name, "none", *measures)]

    # A network that does not learn yet is on a plain: how smooth the loss is there says little.
    losses = {name: mean for test in tests_of(*LOSS) for name, mean in _means(test).items() if mean is not None}
    meanwhile = f"; mean loss meanwhile {', '.join(f'{mean:.3g} ({name})' for name, mean in losses.items())}"
    return [
        dataclasses.replace(claim, ours=claim.ours + meanwhile) if losses and measures != LOSS else claim
        for measures, place in places.items()
        for claim in claim_of_tests(
            OPTIMIZATION, place, f"{subject} {SENTENCES[measures]}.", tests_of(*measures), results, config
        )
    ]


def _means(test: dict[str, Any]) -> dict[str, float | None]:
    """Return the means of both that a test compares."""
    return {test["normalizer"]: test["mean"], test["against"]: test["mean_against"]}
