"""What is said of the claims of arXiv 1805.11604 follows from the numbers of a run."""

import pytest

from experiments import deep_linear, lp_norms, noisy_batch_norm, performance, smoothness, trained_statements
from experiments.claims.tested import verdict_of_tests
from experiments.common.claim import Claim
from experiments.common.trajectory import CLAIMS
from tests.experiments.claims.paired import CONFIG, compared, results_of

# What no difference is, and one of ten deviations, to the side of a claim and to the other.
NOWHERE, SMALLER, LARGER = 0.0, -0.1, 0.1


def verdicts(claims: list[Claim]) -> list[str]:
    return [claim.verdict for claim in claims]


def trajectory_of(by: dict[str, float], *, normalizers: tuple[str, ...] = ("batch_norm",), against: str = "none"):
    tests = [compared(name, against, key, CLAIMS[key], by[key]) for name in normalizers for key in CLAIMS]
    return results_of(*tests)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([("shown", 0.04), ("shown", 0.04)], "reproduced"),
        ([("shown", 0.02), ("not shown", 0.3)], "partly"),
        ([("shown", 0.02), ("contradicted", 0.01)], "partly"),
        ([("shown", 0.04), ("not shown", 0.3)], "not reproduced"),
        ([("shown", 0.04), ("not tested", None)], "partly"),
        ([("not shown", None)], "not reproduced"),
        ([("not contradicted", 0.5)], "partly"),
        ([("not contradicted", None)], "not reproduced"),
        ([("not contradicted", 0.06), ("shown", 0.001)], "reproduced"),
        ([("not contradicted", 0.5), ("contradicted", 0.001)], "partly"),
        ([("contradicted", 0.001)], "not reproduced"),
    ],
)
def test_a_verdict_says_no_more_than_the_tests_show_together(found, verdict):
    assert verdict_of_tests([{"found": what, "p": p} for what, p in found]) == verdict


def test_a_claim_tells_both_means_their_difference_and_its_p_value():
    results = results_of(compared("batch_norm", "none", "train_loss, rate 0.1", "smaller: trains faster", SMALLER))
    (claim,) = performance.claims(results, CONFIG)
    assert "train_loss, rate 0.1: 1 (batch_norm) against 1.1 (none), difference -0.097 ± 0.0094, p = 0.0" in claim.ours
    assert claim.n == "3 seeds; digits, a part"


@pytest.mark.parametrize(
    ("losses", "accuracies", "expected"),
    [
        ((SMALLER, SMALLER), (LARGER, LARGER), ["reproduced", "reproduced"]),
        ((SMALLER, NOWHERE), (NOWHERE, NOWHERE), ["partly", "not reproduced"]),
        ((LARGER, LARGER), (None, LARGER), ["not reproduced", "partly"]),
        ((None, None), (SMALLER, None), ["not reproduced", "not reproduced"]),
    ],
)
def test_performance_is_judged_at_all_learning_rates(losses, accuracies, expected):
    tests = [
        compared("batch_norm", "none", f"{measure}, rate {rate}", performance.CLAIMS[measure], by)
        for measure, differences in (("train_loss", losses), ("test_accuracy", accuracies))
        for rate, by in enumerate(differences)
    ]
    assert verdicts(performance.claims(results_of(*tests), CONFIG)) == expected


def test_runs_that_diverged_are_told_and_show_nothing():
    tests = [compared("batch_norm", "none", "train_loss, rate 9", "smaller: trains faster", None)]
    (claim,) = performance.claims(results_of(*tests), CONFIG)
    assert (claim.verdict, claim.ours) == ("not reproduced", "train_loss, rate 9: 1 of 6 runs diverged")


def test_one_seed_shows_nothing():
    tests = [compared("batch_norm", "none", "train_loss, rate 1", "smaller: trains faster", SMALLER, seeds=1)]
    (claim,) = performance.claims(results_of(*tests), {"seed": 0, "seeds": 1})
    assert claim.verdict == "not reproduced"
    assert claim.ours.endswith("difference -0.09, one seed: no test")
    assert claim.n == "1 seed; digits, a part"


AS_CLAIMED = {key: LARGER if key == "distance" else SMALLER for key in CLAIMS}
OTHERWISE = {key: -by for key, by in AS_CLAIMED.items()}


@pytest.mark.parametrize("experiment", [smoothness, deep_linear])
def test_a_trajectory_is_judged_measure_by_measure(experiment):
    held = experiment.claims(trajectory_of(AS_CLAIMED), CONFIG)
    assert set(verdicts(held)) == {"reproduced"}
    assert set(verdicts(experiment.claims(trajectory_of(OTHERWISE), CONFIG))) == {"not reproduced"}
    mixed = experiment.claims(trajectory_of({**AS_CLAIMED, "curvature": NOWHERE}), CONFIG)
    assert [claim.claim for claim in mixed if claim.verdict != "reproduced"] == [
        claim.claim for claim in held if "curvature" in claim.claim
    ]
    assert len({claim.claim for claim in held}) == len(held)


def test_how_far_both_networks_had_learned_is_said_beside_how_smooth_their_losses_are():
    of_loss, landscape, *_ = deep_linear.claims(trajectory_of(AS_CLAIMED), CONFIG)
    assert landscape.ours.endswith("; mean loss meanwhile 1 (batch_norm), 1.1 (none)")
    assert "meanwhile" not in of_loss.ours


def test_covariate_shift_that_is_not_seen_to_differ_is_partly_what_is_said():
    (*_, shift) = smoothness.claims(trajectory_of({**AS_CLAIMED, "distance": NOWHERE, "cosine": NOWHERE}), CONFIG)
    assert (shift.place, shift.verdict) == ("definition 2.1", "partly")


def test_other_norms_are_judged_together():
    norms = ("batch_norm", "l1_norm", "linf_norm")
    results = trajectory_of(AS_CLAIMED, normalizers=norms)
    assert set(verdicts(lp_norms.claims(results, CONFIG))) == {"reproduced"}
    (spoiled,) = (test for test in results["tests"] if (test["normalizer"], test["measure"]) == ("linf_norm", "loss"))
    spoiled |= compared("linf_norm", "none", "loss", CLAIMS["loss"], LARGER)
    assert verdicts(lp_norms.claims(results, CONFIG)) == ["partly", *["reproduced"] * 4]


@pytest.mark.parametrize("experiment", [smoothness, lp_norms, deep_linear])
def test_nothing_is_claimed_of_normalizers_that_are_not_compared_with_none(experiment):
    assert experiment.claims(trajectory_of(AS_CLAIMED, against="layer_norm"), CONFIG) == []
    assert experiment.claims(trajectory_of(AS_CLAIMED, normalizers=("rms_norm",)), CONFIG) == []


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ((SMALLER, NOWHERE, LARGER, LARGER, LARGER), ["reproduced", "reproduced", "reproduced", "partly"]),
        ((NOWHERE, LARGER, LARGER, NOWHERE, SMALLER), ["partly", *["not reproduced"] * 3]),
    ],
)
def test_noise_is_judged_by_what_shifts_and_what_trains(by, expected):
    tests = [
        compared(name, against, measure, claim, difference)
        for (against, name, measure, claim), difference in zip(noisy_batch_norm.CLAIMS, by, strict=True)
    ]
    assert verdicts(noisy_batch_norm.claims(results_of(*tests), CONFIG)) == expected


def statements(applies: int = 8, /, **violated: float) -> dict:
    """Return the results of statements that hold, or are violated at such a share of the features.

    The hypothesis of S3 as printed holds at so many of 8.
    """
    rows = []
    for epoch in (0, 5):
        for statement, form in trained_statements.FORMS:
            share = violated.get(f"{statement}_{form}", 0.0)
            row = {"epoch": epoch, "statement": statement, "form": form, "features": 8, "missed_by_at_most": share}
            row["applies"] = applies if (statement, form) == ("S3", "printed") else 8
            rows.append({**row, "violated_share": share, "holds": None if form == "printed" else share == 0})
    return results_of(table=rows)


@pytest.mark.parametrize(
    ("violated", "expected"),
    [
        ({}, {}),
        ({"S1_printed": 1.0, "S4_printed": 0.5}, {"theorem 4.1": "misprinted", "theorem 4.4": "misprinted"}),
        ({"S3_printed": 0.3}, {"theorem 4.2, second part": "partly"}),
        ({"S3_printed": 1.0}, {"theorem 4.2, second part": "not reproduced"}),
        ({"S1_printed": 1.0, "S1_derived": 1.0}, {"theorem 4.1": "not reproduced"}),
        ({"S2_derived": 1.0}, {"theorem 4.2": "not reproduced"}),
    ],
)
def test_a_statement_is_misprinted_where_it_fails_and_its_correction_holds(violated, expected):
    found = trained_statements.claims(statements(**violated), {**CONFIG, "epochs": 5})
    assert len(found) == 5
    assert {claim.place: claim.verdict for claim in found if claim.verdict != "reproduced"} == expected


def test_the_second_part_of_theorem_4_2_is_judged_where_its_hypothesis_holds():
    config = {**CONFIG, "epochs": 5}
    (second_part,) = (claim for claim in trained_statements.claims(statements(6), config) if "second" in claim.place)
    assert "holds at 6 of 8 features (epoch 0), 6 of 8 features (epoch 5); violated at 0%" in second_part.ours
    assert second_part.verdict == "partly"
    at_one_epoch = statements(6, S3_printed=1.0)
    last = [row for row in at_one_epoch["table"] if (row["statement"], row["form"]) == ("S3", "printed")][-1]
    last |= {"applies": 0, "violated_share": 0.0}
    (second_part,) = (claim for claim in trained_statements.claims(at_one_epoch, config) if "second" in claim.place)
    assert second_part.verdict == "not reproduced"
    nowhere = trained_statements.claims(statements(0), config)
    assert [claim.place for claim in nowhere if "second" in claim.place] == []
