"""What do paired tests over seeds say of a paper's claim? From those of `common.averages` to a `Claim`."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from experiments.common.averages import SIGNIFICANT
from experiments.common.claim import Claim, Paper, Verdict

# So many tests of one claim are told one by one.
TOLD = 4


def claim_of_tests(
    paper: Paper,
    place: str,
    claim: str,
    tests: Sequence[dict[str, Any]],
    results: dict[str, Any],
    config: dict[str, Any],
) -> list[Claim]:
    """Return a claim with what its tests found; none where the run made no test of it.

    Args:
        paper, place, claim: as in `Claim`.
        tests: those of the claim, rows of `experiments.common.averages.paired_test`.
        results: of the run, with the `data` that it was made on.
        config: of the run, with its number of `seeds`.
    """
    if not tests:
        return []
    return [Claim(paper, place, claim, _said(tests), runs_told(results, config), verdict_of_tests(tests))]


def comparisons(results: dict[str, Any], one: Any, against: Any, *measures: str) -> list[dict[str, Any]]:
    """Return the tests of one with another, of the measures of these names."""
    return [
        test
        for test in results["tests"]
        if (test["normalizer"], test["against"]) == (str(one), str(against))
        and re.split("[,:]", test["measure"])[0] in measures
    ]


def verdict_of_tests(tests: Sequence[dict[str, Any]]) -> Verdict:
    """Return the verdict on a claim of one or several tests.

    It is reproduced if every test shows it. Where it says that something is not smaller, or not larger, it is enough
    that one test shows the contrary and none contradicts it. It is partly reproduced if one test shows it, or if it
    says that something is not so and a test has nothing against that. That one of several tests shows it is asked at
    the level `SIGNIFICANT` of them together (Bonferroni). Without a test, as with one seed or where runs diverged,
    nothing is shown.

    Example:
        >>> verdict_of_tests([{"found": "shown", "p": 0.04}, {"found": "not shown", "p": 0.3}])
        'not reproduced'
    """
    found = {test["found"] for test in tests}
    tested = [test for test in tests if test["p"] is not None]
    shown = any(test["found"] == "shown" and test["p"] < SIGNIFICANT / len(tested) for test in tested)
    if found == {"shown"} or (shown and found <= {"shown", "not contradicted"}):
        return "reproduced"
    return "partly" if shown or any(test["found"] == "not contradicted" for test in tested) else "not reproduced"


def runs_told(results: dict[str, Any], config: dict[str, Any]) -> str:
    """Return of how many runs on which data the tests are."""
    seeds = config["seeds"]
    return f"{seeds} seed{'s' if seeds > 1 else ''}; {results['data']}"


def _said(tests: Sequence[dict[str, Any]]) -> str:
    """Return what the tests found: one by one if they are few, else how many found what, and the clearest of them."""
    if len(tests) <= TOLD:
        return "; ".join(_told(test) for test in tests)
    counts = ", ".join(f"{count} {found}" for found, count in Counter(test["found"] for test in tests).items())
    clearest = min(tests, key=lambda test: 1.0 if test["p"] is None else test["p"])
    return f"of {len(tests)} comparisons {counts}; the clearest: {_told(clearest)}"


def _told(test: dict[str, Any]) -> str:
    """Return both means and their difference with its spread, and the p value or why there is none."""
    if test["mean"] is None:
        return f"{test['measure']}: {test['reason']}"
    of = " of the logarithms" if test["difference_of"] == "logarithms" else ""
    spread = f" ± {test['difference_std']:.2g}" if test["seeds"] > 1 else ""
    return (
        f"{test['measure']}: {test['mean']:.3g} ({test['normalizer']}) against {test['mean_against']:.3g} "
        f"({test['against']}), difference{of} {test['difference']:.2g}{spread}, "
        + (test["reason"] if test["p"] is None else f"p = {test['p']:.2g}")
    )
