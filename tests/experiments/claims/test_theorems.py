"""What is said of every theorem follows from its cases: derived, as printed, and where its hypothesis holds."""

from typing import Any

import pytest

from experiments.claims import theorems

CONFIG = {"cases": 5, "shapes": 5}


def statements(*rows: tuple[str, str, float]) -> dict[str, Any]:
    """Return results of rows: a statement's number, its form, and the share of cases that violate it."""
    return {
        "table": [
            {
                "theorem": name,
                "form": form,
                "dtype": "float64",
                "violated_cases_share": violated,
                "worst_error": violated,
            }
            | {"holds": violated == 0 if form == "derived" else None, "applies_share": 0.5 if name == "S3" else 1.0}
            for name, form, violated in rows
        ]
    }


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (statements(("T1", "derived", 0.0), ("T1 (ε = 0.3)", "derived", 0.0)), ["reproduced"]),
        (statements(("T1", "derived", 0.0), ("T1 (ε = 0.3)", "derived", 0.1)), ["not reproduced"]),
        (statements(("S1", "derived", 0.0), ("S1", "printed", 0.0)), ["reproduced"]),
        (statements(("S1", "derived", 0.0), ("S1", "printed", 1.0)), ["misprinted"]),
        (statements(("S1", "derived", 0.1), ("S1", "printed", 1.0)), ["not reproduced"]),
        # Nobody knows a correction of it.
        (statements(("S3", "derived", 0.0), ("S3", "printed", 0.9)), ["partly"]),
        (statements(("S4", "derived", 0.0), ("S4 curvature", "derived", 0.1)), ["reproduced", "not reproduced"]),
    ],
)
def test_a_theorem_is_misprinted_if_it_fails_as_printed_and_holds_as_derived(results, expected):
    assert [claim.verdict for claim in theorems.claims(results, CONFIG)] == expected


def test_a_theorem_with_a_hypothesis_says_at_how_many_features_it_holds():
    results = statements(("S3", "derived", 0.0), ("S3", "printed", 0.0))
    (claim,) = theorems.claims(results, CONFIG)
    assert claim.verdict == "partly"
    assert "holds at 50% (float64) of the features; as printed violated in 0% (float64) of the cases" in claim.ours
    results["table"][1]["applies_share"] = 0.0
    assert theorems.claims(results, CONFIG) == []


def test_a_theorem_is_judged_in_the_precision_in_which_it_is_about_something():
    results = statements(("S3", "derived", 0.0), ("S3", "printed", 1.0))
    nowhere = [
        row | {"dtype": "float32", "applies_share": 0.0, "violated_cases_share": 0.0} for row in results["table"]
    ]
    (claim,) = theorems.claims({"table": [*results["table"], *nowhere]}, CONFIG)
    assert claim.verdict == "partly"
    assert "as printed violated in 100% (float64) of the cases" in claim.ours
