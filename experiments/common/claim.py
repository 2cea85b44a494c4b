"""What do the papers claim, and what did a run find of it?

An experiment that has something to say of a paper's claims is given a function `claims(results, config)` that returns
a `Claim` for each; they follow from the record alone. `experiments.common.command.main` keeps them in it as the table
`claims`; `experiments.redraw` and `experiments.reproduce` find them anew.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from bnjax.reporting.records import Record
from bnjax.reporting.tables import format_value

Paper = Literal["2205.15146", "1805.11604", "2001.11216"]
# Short names of the papers, by their numbers on arXiv.
PAPERS: dict[Paper, str] = {
    "2205.15146": "Batch Normalization Is Blind to the First and Second Derivatives of the Loss",
    "1805.11604": "How Does Batch Normalization Help Optimization?",
    "2001.11216": "How Does BN Increase Collapsed Neural Network Filters?",
}
BLINDNESS, OPTIMIZATION, COLLAPSE = PAPERS

# Where the paper says something of which only the abstract, or another's account, was at hand.
SECTION_UNKNOWN = "in the paper, section not known to us"
# What follows from the paper, but is not said there.
OWN_QUESTION = "not stated there: our question"
_NUMBERED = r"(section|appendix|Fig\.|definition|theorem|lemma|observation) ([A-Z]|[A-Z]?\.?\d[\d.]*)"
_PLACE = re.compile(rf"(abstract|{_NUMBERED})((, | and | \().*)?")

Verdict = Literal["reproduced", "partly", "not reproduced", "misprinted"]


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper, and what was found of it.

    Attributes:
        paper: the paper's number on arXiv.
        place: where the paper says it, such as "section 2.2 and Fig. 2"; else `SECTION_UNKNOWN` or `OWN_QUESTION`.
        claim: what it says, in our words.
        ours: what was measured, with its spread, such as "0.92 ± 0.05".
        n: of how many what `ours` is, such as "10 batches of 32 rows, 1 seed".
        verdict: "reproduced", "partly", "not reproduced" (contradicted, or not shown), or "misprinted": it does not
            hold as printed, and does with a correction that `ours` names.

    Raises:
        ValueError: the place is none of these.
    """

    paper: Paper
    place: str
    claim: str
    ours: str
    n: str
    verdict: Verdict

    def __post_init__(self) -> None:
        if self.place not in (SECTION_UNKNOWN, OWN_QUESTION) and not _PLACE.fullmatch(self.place):
            raise ValueError(
                "a claim's place needs to be one that the paper has, such as 'Fig. 1' or 'abstract', "
                f"SECTION_UNKNOWN or OWN_QUESTION, got {self.place!r}"
            )

    def to_row(self) -> dict[str, Any]:
        """Return the claim as a row of a table."""
        return {
            "paper": f"arXiv {self.paper}",
            "place": self.place,
            "claim": self.claim,
            "verdict": self.verdict,
            "ours": self.ours,
            "n": self.n,
        }


def with_spread(mean: float, deviation: float) -> str:
    """Return a mean with its standard deviation as `Claim.ours` has it.

    Example:
        >>> with_spread(0.9182, 0.0537)
        '0.918 ± 0.0537'
    """
    return f"{format_value(mean)} ± {format_value(deviation)}"


def with_claims(record: Record, claims: Callable[[dict[str, Any], dict[str, Any]], Sequence[Claim]] | None) -> Record:
    """Return a record with the table of what it says of the papers' claims, by the function of its experiment.

    One without such a function is returned as it is, and so is a smoke run: its sizes say nothing about the question.
    """
    if claims is None or record.config.get("smoke"):
        return record
    found = [claim.to_row() for claim in claims(record.results, record.config)]
    return replace(record, results={**record.results, "claims": found})


def verdict(hold: Iterable[bool], *, samples: int | None = None) -> Verdict:
    """Return the verdict on a claim of several cases: all of them hold, some, or none.

    Args:
        hold: whether each case holds.
        samples: how many batches, seeds or networks are behind it; one alone shows a part of a claim at most.

    Raises:
        ValueError: there is no case.

    Example:
        >>> verdict([True, False])
        'partly'
    """
    cases = list(hold)
    if not cases:
        raise ValueError("a verdict needs at least one case, got none")
    if all(cases) and samples != 1:
        return "reproduced"
    return "partly" if any(cases) else "not reproduced"
