"""Made for the tests of claims: the results of runs that were compared, seed by seed."""

from typing import Any

from experiments.common.averages import paired_difference, without_test

CONFIG = {"seed": 0, "seeds": 3}


def compared(
    normalizer: str, against: str, measure: str, claim: str, by: float | None, *, seeds: int = 3
) -> dict[str, Any]:
    """Return a row of `paired_test`: larger by so much, to a spread of a hundredth; None where runs diverged."""
    which = {"normalizer": normalizer, "against": against, "measure": measure, "difference_of": "means"}
    if by is None:
        return {**which, **without_test(claim, f"1 of {2 * seeds} runs diverged")}
    first = [1.0 + 0.1 * seed for seed in range(seeds)]
    other = [value + by + 0.01 * (-1) ** seed for seed, value in enumerate(first)]
    return {**which, **paired_difference(first, other, claim)}


def results_of(*tests: dict[str, Any], **others: Any) -> dict[str, Any]:
    """Return the results of a run with these tests."""
    return {"tests": list(tests), "data": "digits, a part", "diverged": [], **others}
