"""What do the three papers prove, and what did `experiments.verify_theorems` find of it?"""

from typing import Any, NamedTuple

from bnjax.reporting.tables import format_value
from experiments.common.claim import BLINDNESS, COLLAPSE, OPTIMIZATION, SECTION_UNKNOWN, Claim, Paper, verdict


class Theorem(NamedTuple):
    """What a paper states, and which statements of docs/theory.md are about it.

    Attributes:
        paper: the paper.
        place: where it says so.
        claim: what it says, in our words.
        derived: the numbers of what is derived of it, at every ε that it is tried at.
        correction: how the printed form differs from the derived one, if it is wrong as it is printed.
        hypothesis: what it supposes; only cases that fulfil it are judged, and where not all do it is shown partly.
    """

    paper: Paper
    place: str
    claim: str
    derived: tuple[str, ...]
    correction: str = ""
    hypothesis: str = ""


THEOREMS = (
    Theorem(
        BLINDNESS,
        "abstract",
        "The first-order term that all rows share is constant behind the standardization, and has no derivatives.",
        ("T1",),
    ),
    Theorem(BLINDNESS, SECTION_UNKNOWN, "So is the diagonal of the second-order term, at ε = 0.", ("T2",)),
    Theorem(
        BLINDNESS,
        SECTION_UNKNOWN,
        "Of the off-diagonal second-order term, at a feature, only what is not linear in that feature gets back.",
        ("T3",),
    ),
    Theorem(BLINDNESS, SECTION_UNKNOWN, "Powers of a feature above the second get back.", ("T4",)),
    Theorem(
        BLINDNESS,
        "abstract",
        "The standardization is the cause: the affine phase unblocks nothing, constant statistics block nothing.",
        ("T5 affine", "T5 constant"),
    ),
    Theorem(
        OPTIMIZATION,
        "theorem 4.1",
        "The gradient's squared norm is at most (γ²/σ²)(‖g‖² - ⟨1,g⟩²/m - ⟨g,ŷ⟩²/√m).",
        ("S1",),
        "with 1/m in place of 1/√m it is an equality",
    ),
    Theorem(
        OPTIMIZATION,
        "theorem 4.2",
        "The curvature along the gradient is at most (γ²/σ²)ĝᵀHĝ - (γ/(mσ²))⟨g,ŷ⟩‖ĝ‖².",
        ("S2",),
    ),
    Theorem(
        OPTIMIZATION,
        "theorem 4.2, second part",
        "If H preserves the relative norms of g and ĝ, it is at most (γ²/σ²)(gᵀHg - ⟨g,ŷ⟩‖ĝ‖²/(mγ)).",
        ("S3",),
        hypothesis="ĝᵀHĝ ≤ gᵀHg (which given theorem 4.2 is all that the second part says)",
    ),
    Theorem(
        OPTIMIZATION,
        "theorem 4.4",
        "The weights' largest squared gradient is at most (γ²/σ²)(max ‖∇L‖² - mμ_g² - λ²⟨g,ŷ⟩²).",
        ("S4",),
        "with λ²mμ_g² and (λ²/m)⟨g,ŷ⟩² it is an equality",
    ),
    Theorem(
        OPTIMIZATION,
        "theorem C.1 (its wording is not known to us)",
        "For isometric inputs the curvature along the weights' gradient is that of theorem 4.2 times λ⁴.",
        ("S4 curvature",),
    ),
    Theorem(
        OPTIMIZATION,
        "lemma 4.5",
        "Since the length of the weights does not count, an optimum lies nearer to the initialization.",
        ("S5",),
    ),
    Theorem(
        OPTIMIZATION,
        "observation 4.3",
        "With γ = σ and β = μ the normalizer returns its input, so that the plain network's minima are kept.",
        ("S6",),
    ),
    Theorem(
        COLLAPSE,
        "abstract",
        "Normalization makes a region of (γ, β) that a ReLU leaves without gradient and curvature.",
        ("F1", "F1 live"),
    ),
)


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of every theorem in `THEOREMS`.

    A theorem is misprinted if what is derived holds, what is printed is violated, and the correction is known.
    """
    found = []
    for theorem in THEOREMS:
        rows = [row for row in results["table"] if row["theorem"].partition(" (")[0] in theorem.derived]
        derived, printed = (
            [row for row in rows if row["form"] == form and row["applies_share"]] for form in ("derived", "printed")
        )
        if not derived or (not printed and any(row["form"] == "printed" for row in rows)):
            continue  # It was not tried, or there is no case that it is about.
        holds, violated = all(row["holds"] for row in derived), any(row["violated_cases_share"] for row in printed)
        cases = [holds, *([not violated] if printed else [])]
        if all(cases):
            cases += [row["applies_share"] == 1 for row in printed]
        misprinted = bool(theorem.correction) and holds and violated
        shares, applying = (
            ", ".join(f"{row[key]:.0%} ({row['dtype']})" for row in printed)
            for key in ("violated_cases_share", "applies_share")
        )
        ours = [
            f"its hypothesis, {theorem.hypothesis}, holds at {applying} of the features" if theorem.hypothesis else "",
            f"as printed violated in {shares} of the cases" if violated or theorem.hypothesis else "",
            theorem.correction if misprinted else "",
            f"as derived off by {_largest_errors(derived)}, {'within' if holds else 'beyond'} rounding",
        ]
        claim = Claim(
            paper=theorem.paper,
            place=theorem.place,
            claim=theorem.claim,
            ours="; ".join(filter(None, ours)),
            n=f"{config['cases']} random cases of each of {config['shapes']} shapes, in each precision",
            verdict="misprinted" if misprinted else verdict(cases),
        )
        found.append(claim)
    return found


def _largest_errors(rows: list[dict[str, Any]]) -> str:
    """Return the largest error of some statements in each precision, relative to the size of their sides."""
    errors: dict[str, float] = {}
    for row in rows:
        errors[row["dtype"]] = max(row["worst_error"], errors.get(row["dtype"], 0.0))
    return ", ".join(f"{format_value(error)} ({dtype})" for dtype, error in errors.items())
