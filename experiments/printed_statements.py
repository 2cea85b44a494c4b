"""What does arXiv 1805.11604 print of smoothness, and what is found of it at the normalizers of a network?

In what leaves one normalizer g is the gradient and H the Hessian, in what enters it ĝ and Ĥ; μ_g is the mean of g. The
statements are derived, and their printed forms told from the derived ones, in docs/theory.md (smoothness).
"""

from typing import Any, NamedTuple

from experiments.claims import OPTIMIZATION, Claim, verdict


class Statement(NamedTuple):
    """A statement of the paper.

    Attributes:
        place: where it is printed.
        printed: how it is printed.
        derived: the statement from whose derived form it follows, or should.
        form: how that reads beside the printed one.
        misprinted: whether that form is a correction of the printed one, which does not follow from it.
    """

    place: str
    printed: str
    derived: str
    form: str
    misprinted: bool = False


STATEMENTS = {
    "S1": Statement(
        "theorem 4.1", "‖ĝ‖² ≤ γ²/σ² (‖g‖² - ⟨1,g⟩²/m - ⟨g,ŷ⟩²/√m)", "S1", "= for ≤ and 1/m for 1/√m", misprinted=True
    ),
    "S2": Statement("theorem 4.2", "ĝᵀĤĝ ≤ γ²/σ² ĝᵀHĝ - γ/(mσ²) ⟨g,ŷ⟩ ‖ĝ‖²", "S2", "= for ≤"),
    "S3": Statement(
        "theorem 4.2, second part",
        "ĝᵀĤĝ ≤ γ²/σ² (gᵀHg - ⟨g,ŷ⟩ ‖ĝ‖²/(mγ)), if H keeps relative norms",
        "S3",
        "γ²/σ² ĝᵀHĝ on the right, where γ⟨g,ŷ⟩ ≥ 0,",
    ),
    "S4": Statement(
        "theorem 4.4",
        "max ‖∇_W L̂‖² ≤ γ²/σ² (max ‖∇_W L‖² - m μ_g² - λ² ⟨g,ŷ⟩²) over inputs of norm at most λ",
        "S1",
        "= for ≤, λ² m μ_g² for m μ_g² and λ²/m for λ²",
        misprinted=True,
    ),
    "S6": Statement("observation 4.3", "There are γ and β that give back what enters the normalizer.", "S6", "σ and μ"),
}


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what `experiments.trained_statements` found of every statement as it is printed."""
    return [_claim(name, statement, results, config) for name, statement in STATEMENTS.items()]


def _claim(name: str, statement: Statement, results: dict[str, Any], config: dict[str, Any]) -> Claim:
    """Return what was found of one statement; one that is not tried as printed is the derived one, or follows."""

    def rows_of(name: str, form: str) -> list[dict[str, Any]]:
        return [row for row in results["table"] if (row["statement"], row["form"]) == (name, form)]

    derived = rows_of(statement.derived, "derived")
    printed = rows_of(name, "printed") or derived
    shares = ", ".join(f"{row['violated_share']:.0%} (epoch {row['epoch']})" for row in printed)
    found = verdict(case for row in printed for case in (row["violated_share"] == 0, row["violated_share"] < 1))
    misprinted = statement.misprinted and found != "reproduced" and all(row["holds"] for row in derived)
    return Claim(
        paper=OPTIMIZATION,
        place=statement.place,
        claim=statement.printed,
        ours=f"violated at {shares} of the features; with {statement.form} missed by "
        f"{max(row['worst'] for row in derived):.1g} of its parts at most",
        n=f"{printed[0]['features']} features of {config['seeds']} trained network{'s' * (config['seeds'] > 1)}; "
        f"{results['data']}",
        verdict="misprinted" if misprinted else found,
    )
