"""What is found at the normalizers of trained networks of the smoothness that arXiv 1805.11604 states?"""

from collections.abc import Callable
from typing import Any

from experiments.claims.theorems import THEOREMS, Theorem
from experiments.common.claim import Claim, verdict

# The statements that are tried there, and the one from whose derived form each follows, or should.
DERIVED = {"S1": "S1", "S2": "S2", "S3": "S3", "S4": "S1", "S6": "S6"}


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what `experiments.trained_statements` found of every statement as it is printed."""
    return [
        claim for theorem in THEOREMS if theorem.derived[0] in DERIVED for claim in _claim(theorem, results, config)
    ]


def _claim(theorem: Theorem, results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of one statement, if its hypothesis holds anywhere.

    One that is not tried as printed is the derived one, or follows.
    """
    name = theorem.derived[0]

    def rows_of(name: str, form: str) -> list[dict[str, Any]]:
        return [row for row in results["table"] if (row["statement"], row["form"]) == (name, form)]

    derived = rows_of(DERIVED[name], "derived")
    tried = rows_of(name, "printed") or derived
    printed = [row for row in tried if row["applies"]]
    if not printed:
        return []
    cases = [case for row in printed for case in (row["violated_share"] == 0, row["violated_share"] < 1)]
    if all(cases):
        cases += [row["applies"] == row["features"] for row in tried]
    found = verdict(cases)
    misprinted = (
        bool(theorem.correction) and found != "reproduced" and not any(row["holds"] is False for row in derived)
    )
    applying = _by_epoch(tried, lambda row: f"{row['applies']} of {row['features']} features")
    violated = _by_epoch(printed, lambda row: f"{row['violated_share']:.0%}")
    ours = [
        f"its hypothesis, {theorem.hypothesis}, holds at {applying}" if theorem.hypothesis else "",
        f"violated at {violated} of {'these' if theorem.hypothesis else 'the features'}",
        theorem.correction if misprinted else "",
        f"as derived missed by at most {max(row['missed_by_at_most'] for row in derived):.1g} of the numbers that the "
        "sides are sums of",
    ]
    return [
        Claim(
            paper=theorem.paper,
            place=theorem.place,
            claim=theorem.claim,
            ours="; ".join(filter(None, ours)),
            n=f"{printed[0]['features']} features of {config['seeds']} trained network{'s' * (config['seeds'] > 1)}; "
            f"{results['data']}",
            verdict="misprinted" if misprinted else found,
        )
    ]


def _by_epoch(rows: list[dict[str, Any]], told: Callable[[dict[str, Any]], str]) -> str:
    """Return what is told of the rows, each with its epoch."""
    return ", ".join(f"{told(row)} (epoch {row['epoch']})" for row in rows)
