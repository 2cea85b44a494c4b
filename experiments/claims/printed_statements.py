"""What is found at the normalizers of trained networks of the smoothness that arXiv 1805.11604 states?"""

from typing import Any

from experiments.claims.claim import Claim, verdict
from experiments.claims.theorems import THEOREMS, Theorem

# The statements that are tried there, and the one from whose derived form each follows, or should.
DERIVED = {"S1": "S1", "S2": "S2", "S3": "S3", "S4": "S1", "S6": "S6"}


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what `experiments.trained_statements` found of every statement as it is printed."""
    return [_claim(theorem, results, config) for theorem in THEOREMS if theorem.derived[0] in DERIVED]


def _claim(theorem: Theorem, results: dict[str, Any], config: dict[str, Any]) -> Claim:
    """Return what was found of one statement; one that is not tried as printed is the derived one, or follows."""
    name = theorem.derived[0]

    def rows_of(name: str, form: str) -> list[dict[str, Any]]:
        return [row for row in results["table"] if (row["statement"], row["form"]) == (name, form)]

    derived = rows_of(DERIVED[name], "derived")
    printed = rows_of(name, "printed") or derived
    shares = ", ".join(f"{row['violated_share']:.0%} (epoch {row['epoch']})" for row in printed)
    found = verdict(case for row in printed for case in (row["violated_share"] == 0, row["violated_share"] < 1))
    misprinted = bool(theorem.correction) and found != "reproduced" and all(row["holds"] for row in derived)
    ours = [
        f"violated at {shares} of the features",
        theorem.correction if misprinted else "",
        f"as derived missed by {max(row['worst'] for row in derived):.1g} of its parts at most",
    ]
    return Claim(
        paper=theorem.paper,
        place=theorem.place,
        claim=theorem.claim,
        ours="; ".join(filter(None, ours)),
        n=f"{printed[0]['features']} features of {config['seeds']} trained network{'s' * (config['seeds'] > 1)}; "
        f"{results['data']}",
        verdict="misprinted" if misprinted else found,
    )
