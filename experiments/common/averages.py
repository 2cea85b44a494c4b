"""What do several runs of one kind have in common, and how do two kinds differ? Means, deviations, paired tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import ttest_1samp

SIGNIFICANT = 0.05
NOT_FINITE = "not finite"
SINGLE_PRECISION = float(np.finfo(np.float32).eps)


def over_seeds(rows: Sequence[dict[str, Any]], by: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return mean and standard deviation of the metrics over all rows that agree in the keys `by`.

    A metric is averaged over the rows in which it is not None; where there is none, mean and deviation are None.

    Returns:
        A row for each group, in the order of first appearance: the keys, each metric and `<metric>_std` (population
        standard deviation), and `seeds`, the number of rows.
    """
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in by), []).append(row)
    averages = []
    for group, alike in groups.items():
        row: dict[str, Any] = dict(zip(by, group, strict=True))
        for metric in metrics:
            values = [run[metric] for run in alike if run[metric] is not None]
            row[metric] = float(np.mean(values)) if values else None
            row[f"{metric}_std"] = float(np.std(values)) if values else None
        averages.append({**row, "seeds": len(alike)})
    return averages


def paired_difference(first: Sequence[float], other: Sequence[float], claim: str) -> dict[str, Any]:
    """Return how `other` differs from `first`, entry by entry (the same seeds): a paired t-test, two-sided.

    Args:
        first: a number for each seed.
        other: likewise.
        claim: what is said of `other`: "smaller", "larger", "not smaller", "not larger" or "about the same", with more
            words after it or none.

    Returns:
        The `claim`, `mean_against` and `mean` of the two, `difference` and its population standard deviation
        `difference_std`, the test's `p`, None with a `reason` where there is no test, what was `found` of the claim at
        the level `SIGNIFICANT`, and `seeds`, the number of entries.
    """
    difference = np.asarray(other) - np.asarray(first)
    reason = _no_test_of(difference, np.max(np.abs([first, other])))
    if reason == NOT_FINITE:
        return without_test(claim, reason)
    test: Any = ttest_1samp
    p = None if reason else float(test(difference, 0.0).pvalue)
    return {
        "claim": claim,
        "mean_against": float(np.mean(first)),
        "mean": float(np.mean(other)),
        "difference": float(np.mean(difference)),
        "difference_std": float(np.std(difference)),
        "p": p,
        "reason": reason,
        "found": _found(claim, float(np.mean(difference)), p),
        "seeds": len(difference),
    }


def without_test(claim: str, reason: str) -> dict[str, Any]:
    """Return what `paired_difference` does, for numbers that there are not."""
    numbers = dict.fromkeys(("mean_against", "mean", "difference", "difference_std", "p"))
    return {"claim": claim, **numbers, "reason": reason, "found": "not tested", "seeds": 0}


def _no_test_of(difference: np.ndarray, size: float) -> str:
    """Return why a t-test of differences between numbers of this size would say nothing, or nothing."""
    if not np.isfinite(difference).all():
        return NOT_FINITE
    if len(difference) < 2:
        return "one seed: no test"
    # Numbers of single precision, whose differences are rounded: a test would take that for a spread.
    return "" if np.ptp(difference) > SINGLE_PRECISION * size else "no spread over seeds"


def p_of(test: dict[str, Any]) -> str:
    """Return the p of a row of `paired_difference` as a claim has it, or why there is none.

    Example:
        >>> p_of(paired_difference([1.0, 2.0, 3.0], [2.0, 3.0, 4.5], "larger"))
        'p 0.02'
        >>> p_of(paired_difference([1.0], [2.0], "larger"))
        'one seed: no test'
    """
    return test["reason"] or f"p {test['p']:.1g}"


def paired_test(
    rows: Sequence[dict[str, Any]],
    normalizer: str,
    against: str,
    measure: str,
    claim: str,
    *,
    seeds: int,
    geometric: bool = False,
) -> dict[str, Any]:
    """Return how a measure's mean over each seed's rows differs between two normalizers, as `paired_difference`.

    Where one of them has rows of fewer than so many seeds, since runs diverged, nothing is compared. What is positive
    and goes over orders of magnitude, where one row would decide, is compared by geometric means: the logarithms are
    tested, and `difference` is that of the logarithms, as `difference_of` says.
    """
    if geometric:
        with np.errstate(divide="ignore", invalid="ignore"):
            rows = [{**row, measure: float(np.log(row[measure]))} for row in rows]
    first, other = (
        means_of_seeds([row for row in rows if row["normalizer"] == which], measure) for which in (against, normalizer)
    )
    which = {"normalizer": normalizer, "against": against}
    which["measure"] = f"{measure}, geometric mean" if geometric else measure
    which["difference_of"] = "logarithms" if geometric else "means"
    diverged = 2 * seeds - len(first) - len(other)
    if diverged:
        return {**which, **without_test(claim, f"{diverged} of {2 * seeds} runs diverged")}
    found = paired_difference(first, other, claim)
    if geometric and found["mean"] is not None:
        found |= {"mean_against": float(np.exp(found["mean_against"])), "mean": float(np.exp(found["mean"]))}
    return {**which, **found}


def _found(claim: str, difference: float, p: float | None) -> str:
    """Return whether a claim is shown, contradicted, or neither."""
    asserted = claim.startswith(("smaller", "larger"))
    if p is None or p >= SIGNIFICANT:
        return "not shown" if asserted else "not contradicted"
    side = "smaller" if difference < 0 else "larger"
    if asserted:
        return "shown" if claim.startswith(side) else "contradicted"
    return "shown" if claim.startswith("not ") and not claim.startswith(f"not {side}") else "contradicted"


def left_out(results: dict[str, Any]) -> str:
    """Return what a caption says of the runs that diverged and are in none of its averages; nothing if none did."""
    return f"; {len(results['diverged'])} diverged runs are left out" if results["diverged"] else ""


def means_of_seeds(rows: Sequence[dict[str, Any]], measure: str) -> list[float]:
    """Return the mean of a measure over each seed's rows, in the order of first appearance."""
    seeds = dict.fromkeys(row["seed"] for row in rows)
    return [float(np.mean([row[measure] for row in rows if row["seed"] == seed])) for seed in seeds]


def compared(tests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of `paired_test` as narrow as a terminal; where there is no p there is the reason."""
    shown = ("normalizer", "against", "measure", "claim", "mean_against", "mean")
    return [
        {**{key: row[key] for key in shown}, "p": row["p"] or row["reason"]}
        | {"seeds": row["seeds"], "found": row["found"]}
        for row in tests
    ]
