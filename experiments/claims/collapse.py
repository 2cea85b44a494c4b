"""What do paired tests say of post-shifted batch normalization? Claims of the abstract of arXiv 2001.11216."""

from collections.abc import Mapping
from typing import Any

from experiments.claims.tested import claim_of_tests, comparisons
from experiments.common.claim import COLLAPSE, Claim

PLACE = "abstract"


def claims_of_shift(results: dict[str, Any], config: dict[str, Any], sentences: Mapping[str, str]) -> list[Claim]:
    """Return what was found of post-shifted batch normalization beside batch normalization.

    Args:
        results: of the run, with its `tests`.
        config: of the run.
        sentences: what is claimed of each measure, by the measure's name.
    """
    return [
        claim
        for measure, sentence in sentences.items()
        for claim in claim_of_tests(
            COLLAPSE,
            PLACE,
            sentence,
            comparisons(results, "post_shifted_batch_norm", "batch_norm", measure),
            results,
            config,
        )
    ]
