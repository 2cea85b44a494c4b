"""What is said of the claims of arXiv 2001.11216 follows from the numbers of a run."""

from collections.abc import Mapping

import pytest

from experiments import collapse_recovery, dead_region, detection, filter_collapse, sparsifying_probability
from experiments.common.averages import without_test
from experiments.common.claim import Claim
from tests.experiments.claims.paired import CONFIG, compared, results_of

NOWHERE, SMALLER, LARGER = 0.0, -0.1, 0.1
SHIFTED, PLAIN = "post_shifted_batch_norm", "batch_norm"


def verdicts(claims: list[Claim]) -> list[str]:
    return [claim.verdict for claim in claims]


def found_of(claims: list[Claim], words: str) -> str:
    (claim,) = (claim for claim in claims if words in claim.claim)
    return claim.verdict


def collapsing(by: float | None, *, shares: tuple[float, ...] = (0.2, 0.3), first: str = PLAIN) -> dict:
    """Return the results of runs at two rates; every cause, and the shift, changes what is lost by so much."""
    kept = None if by is None else -by
    tests = [compared(SHIFTED, PLAIN, f"collapsed: adam, {rate}, scratch", "smaller", kept) for rate in (0.1, 1.0)] + [
        compared(SHIFTED, PLAIN, f"test_accuracy: adam, {rate}, scratch", "larger", by) for rate in (0.1, 1.0)
    ]
    tests += [
        compared(more, less, f"collapsed: adam, {same}, {first}", "larger", by)
        for more, less in (("1.0", "0.1"), ("adam", "sgd"), ("fine_tuned", "scratch"))
        for same in ("a", "b")
    ]
    kind = {"optimizer": "adam", "learning_rate": 1.0, "start": "scratch", "normalizer": PLAIN}
    runs = [{**kind, "seed": seed, "collapsed": share} for seed, share in enumerate(shares)]
    mean = {"collapsed": sum(shares) / len(shares), "collapsed_std": 0.05} if shares else {}
    return results_of(*tests, runs=runs, table=[{**kind, **mean}] if shares else [])


OPTIONS = {**CONFIG, "normalizers": (PLAIN, SHIFTED), "learning_rates": (0.1, 1.0)}


def test_every_cause_of_collapse_is_judged_by_its_own_comparisons():
    assert verdicts(filter_collapse.claims(collapsing(LARGER), OPTIONS)) == ["reproduced"] * 6
    assert verdicts(filter_collapse.claims(collapsing(SMALLER), OPTIONS)) == ["reproduced", *["not reproduced"] * 5]
    results = collapsing(LARGER)
    results["tests"] = [test for test in results["tests"] if "adam" not in test["normalizer"]]
    claims = filter_collapse.claims(results, OPTIONS)
    assert len(claims) == 5
    assert not any("adaptive" in claim.claim for claim in claims)


def test_one_comparison_of_many_that_is_significant_by_itself_shows_nothing():
    results = collapsing(LARGER)
    weak = {**compared("1.0", "0.1", "collapsed: sgd, scratch", "larger", LARGER), "p": 0.04}
    none = [{**compared("1.0", "0.1", f"collapsed: {i}", "larger", NOWHERE), "p": 0.5} for i in range(5)]
    results["tests"] = [weak, *none]
    (claim,) = (claim for claim in filter_collapse.claims(results, OPTIONS) if "larger learning" in claim.claim)
    assert claim.verdict == "not reproduced"
    assert claim.ours.startswith("of 6 comparisons 1 shown, 5 not shown; the clearest: collapsed: sgd, scratch: ")


def test_filters_are_lost_where_every_seed_loses_some():
    assert found_of(filter_collapse.claims(collapsing(NOWHERE), OPTIONS), "common") == "reproduced"
    assert found_of(filter_collapse.claims(collapsing(NOWHERE, shares=(0.2, 0.0)), OPTIONS), "common") == (
        "not reproduced"
    )


def test_what_was_not_of_batch_normalization_or_diverged_is_not_claimed():
    other = {**OPTIONS, "normalizers": (SHIFTED, "layer_norm")}
    results = collapsing(LARGER, shares=(), first=SHIFTED)
    results["tests"] = [test for test in results["tests"] if test["normalizer"] != SHIFTED]
    assert filter_collapse.claims(results, other) == []
    diverged = filter_collapse.claims(collapsing(None, shares=()), OPTIONS)
    assert verdicts(diverged) == ["not reproduced"] * 5


def recovering(recovered: float, accuracy: float) -> dict:
    return results_of(
        compared(SHIFTED, PLAIN, "recovered", "larger", recovered),
        compared(SHIFTED, PLAIN, "test_accuracy", "larger", accuracy),
    )


def test_recovery_is_of_filters_and_apart_from_that_of_accuracy():
    assert verdicts(collapse_recovery.claims(recovering(LARGER, NOWHERE), CONFIG)) == ["reproduced", "not reproduced"]
    assert verdicts(collapse_recovery.claims(recovering(NOWHERE, LARGER), CONFIG)) == ["not reproduced", "reproduced"]


def test_networks_that_lost_nothing_show_no_recovery():
    test = {"normalizer": SHIFTED, "against": PLAIN, "measure": "recovered"}
    (claim,) = collapse_recovery.claims(
        results_of({**test, **without_test("larger", collapse_recovery.NONE_LOST)}), CONFIG
    )
    assert claim.verdict == "not reproduced"
    assert collapse_recovery.NONE_LOST in claim.ours


@pytest.mark.parametrize(
    ("ap", "collapsed", "expected"),
    [
        (LARGER, SMALLER, ["reproduced", "reproduced"]),
        (NOWHERE, SMALLER, ["not reproduced", "reproduced"]),
        (SMALLER, NOWHERE, ["not reproduced", "not reproduced"]),
    ],
)
def test_a_detector_that_keeps_its_filters_is_not_thereby_better(ap, collapsed, expected):
    by = {"ap": ap, "ap50": ap, "collapsed": collapsed}
    tests = [compared(SHIFTED, PLAIN, key, detection.CLAIMS[key], by[key]) for key in detection.CLAIMS]
    assert verdicts(detection.claims(results_of(*tests), CONFIG)) == expected


def test_nothing_is_claimed_of_a_detector_with_one_normalizer():
    assert detection.claims(results_of(), CONFIG) == []


LAW = {"two_point": 2.0, "pareto": 2.0, "gaussian": 2.0}


def probabilities(slopes: Mapping[str, float | None], *, above: bool = False, trained: float = 0.1) -> dict:
    rows = [
        {"noise": noise, "of": of, "slope": None if slope is None else sign * slope, "standard_error": 0.01}
        for noise, slope in slopes.items()
        for of, sign in (("rate", 1), ("scale", -1))
    ]
    features = [{"frequency": trained, "cantelli": 0.2}]
    return results_of(table=[{"holds": True}, {"holds": not above}], slopes=rows, features=features)


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        (probabilities(LAW), "reproduced"),
        (probabilities({**LAW, "gaussian": 7.5}), "misprinted"),
        (probabilities({**LAW, "gaussian": None}), "partly"),
        (probabilities(dict.fromkeys(LAW)), "partly"),
        (probabilities({**LAW, "gaussian": 7.5}, above=True), "not reproduced"),
        (probabilities({**LAW, "gaussian": 7.5}, trained=0.3), "not reproduced"),
    ],
)
def test_the_law_is_misprinted_where_only_the_bound_is_one(results, verdict):
    config = {**CONFIG, "steps": 1000, "batches": 10}
    assert verdicts(sparsifying_probability.claims(results, config)) == [verdict]


def region(**gradients: float) -> dict:
    """Return the results of filters with such gradients where they should have none, or none where they should."""
    rows = []
    for normalizer in (PLAIN, SHIFTED):
        for activation in ("relu", "leaky_relu"):
            for margin in (-0.5, -0.05, 0.0, 0.5):
                dead = margin + (0.1 if normalizer == SHIFTED else 0.0) < 0
                gradient = gradients.get(f"{normalizer}_{activation}", 0.0 if dead and activation == "relu" else 0.02)
                row = {"normalizer": normalizer, "activation": activation, "margin": margin, "dead": dead}
                row |= {"gradient_norm": gradient, "gradient_norm_std": gradient / 2}
                rows.append({**row, "gradient_norm_max": gradient, "hessian_max": gradient})
    return results_of(table=rows)


@pytest.mark.parametrize(
    ("gradients", "expected"),
    [
        ({}, ["reproduced", "not reproduced", "reproduced"]),
        ({"batch_norm_leaky_relu": 0.0}, ["reproduced", "reproduced", "reproduced"]),
        ({"batch_norm_relu": 0.02}, ["partly", "not reproduced", "reproduced"]),
        ({"post_shifted_batch_norm_relu": 0.0}, ["reproduced", "not reproduced", "not reproduced"]),
    ],
)
def test_a_region_is_untrainable_where_gradient_and_hessian_are_exactly_zero(gradients, expected):
    config = {**CONFIG, "rows": 16, "shift": 0.1}
    assert verdicts(dead_region.claims(region(**gradients), config)) == expected


def test_the_shift_is_not_judged_where_no_margin_lies_within_it():
    results = region()
    results["table"] = [row for row in results["table"] if row["margin"] != -0.05]
    assert len(dead_region.claims(results, {**CONFIG, "rows": 16, "shift": 0.1})) == 2


def test_what_is_claimed_of_the_shift_is_compared_with_the_same_biases_without_it():
    *_, shifted = dead_region.claims(region(), {**CONFIG, "rows": 16, "shift": 0.1})
    assert "exactly 0, for every seed, at 0 of 1 biases" in shifted.ours
    assert "; without the shift: gradient and Hessian exactly 0, for every seed, at 1 of 1 biases" in shifted.ours
    assert shifted.n.endswith("one filter at 1 bias")
