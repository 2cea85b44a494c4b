"""What did the experiments find of each paper's claims? As rows, as a page and as a Markdown document."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from bnjax.reporting.records import Record, column_names
from bnjax.reporting.tables import counted, format_value
from experiments.common.claim import PAPERS, Paper, Verdict
from experiments.common.folder import PAGE_FILE
from experiments.common.question import question_of

Row = dict[str, Any]

NOT_RUN = "not run yet"
TITLE = "Results: the papers' claims, one by one"
INTRODUCTION = (
    "Every claim of the three papers that an experiment here tests, in our words, and what was found of it. The "
    "numbers are those of the runs' records, and the verdicts are computed from them: reproduced where every case "
    "that was tried is as the paper says, partly where some are or what it supposes holds for some, not reproduced "
    "where none is or what was found may be chance, misprinted where it does not hold as it is printed and does with "
    "the correction that is given. ± is the standard deviation over what n counts first, such as networks or seeds."
)
TIMES = "Seconds are those of the whole run, compilation included; dates are in UTC."
FINDINGS = Path(__file__).parents[2] / "docs" / "findings.md"


@dataclass(frozen=True)
class Experiment:
    """An experiment, and what became of it.

    Attributes:
        name: of its module in `experiments`.
        paper: the paper that it is about.
        command: what to type for it.
        outcome: its record, or why it has none.
    """

    name: str
    paper: Paper
    command: str
    outcome: Record | str

    @property
    def question(self) -> str:
        """The question that it answers."""
        return question_of(f"experiments.{self.name}")

    @property
    def record(self) -> Record | None:
        """Its record, if it has one."""
        return self.outcome if isinstance(self.outcome, Record) else None

    @property
    def claims(self) -> list[Row]:
        """What its record says of the papers' claims."""
        return self.record.results.get("claims", []) if self.record else []

    @property
    def failures(self) -> list[str]:
        """Its failed checks, or why it left no record; none if it was not to be run."""
        if isinstance(self.outcome, Record):
            return self.outcome.results["failures"]
        return [] if self.outcome == NOT_RUN else [self.outcome]


def experiment_rows(experiments: Iterable[Experiment]) -> list[Row]:
    """Return what became of each experiment, where and when."""
    rows = []
    for experiment in experiments:
        origin = experiment.record.provenance if experiment.record else {}
        rows.append(
            {
                "command": experiment.command,
                "question": experiment.question,
                "seconds": round(origin["wall_time_s"]) if origin else None,
                "checks": "; ".join(experiment.failures) or ("hold" if origin else NOT_RUN),
                "claims": counted(claim["verdict"] for claim in experiment.claims),
                "date": origin["started"][:10] if origin else "",
                "hardware": _hardware(origin["device"]) if origin else "",
            }
        )
    return rows


def claim_rows(experiments: Iterable[Experiment], paper: Paper) -> list[Row]:
    """Return a row for each claim of a paper, and one for each experiment on it that has no record."""
    rows = []
    for experiment in experiments:
        for claim in experiment.claims:
            if claim["paper"] == f"arXiv {paper}":
                rows.append(_claim_row(experiment, claim))
        if experiment.record is None and experiment.paper == paper:
            rows.append(_claim_row(experiment, {"claim": experiment.question, "verdict": str(experiment.outcome)}))
    return rows


def verdict_rows(experiments: Sequence[Experiment]) -> list[Row]:
    """Return how often each verdict was found, by paper; one that is kept in an earlier version's words, too."""
    claims = [claim for experiment in experiments for claim in experiment.claims]
    verdicts = dict.fromkeys([*get_args(Verdict), *(claim["verdict"] for claim in claims)])
    found = Counter((claim["paper"], claim["verdict"]) for claim in claims)
    without = Counter(experiment.paper for experiment in experiments if experiment.record is None)
    return [
        {
            "paper": f"arXiv {paper}",
            **{verdict: found[f"arXiv {paper}", verdict] for verdict in verdicts},
            "experiments without a record": without[paper],
        }
        for paper in PAPERS
    ]


def claims_page(experiments: Sequence[Experiment]) -> str:
    """Return the page, as HTML, of the folder of all runs: the claims, if something was found of any; the runs."""
    from bnjax.reporting.pages import Link, Section, Table, page

    pages = {experiment.command: f"{experiment.name}/{PAGE_FILE}" for experiment in experiments if experiment.record}

    def linked(rows: Sequence[Row]) -> list[Row]:
        return [
            {**row, "command": Link(row["command"], pages[row["command"]])} if row["command"] in pages else row
            for row in rows
        ]

    counts = [
        {**row, "paper": Link(PAPERS[paper], f"https://arxiv.org/abs/{paper}")}
        for paper, row in zip(PAPERS, verdict_rows(experiments), strict=True)
    ]
    claims = [
        Section("Verdicts", tables=[Table("verdicts", counts)]),
        *(
            Section(title, tables=[Table(f"claims_{paper}", linked(claim_rows(experiments, paper)))])
            for paper, title in PAPERS.items()
        ),
    ]
    done = Section("Experiments", TIMES, [Table("experiments", linked(experiment_rows(experiments)))])
    found = any(experiment.claims for experiment in experiments)
    return page(TITLE, INTRODUCTION, [*claims, done] if found else [done])


def document(experiments: Sequence[Experiment], path: Path) -> str:
    """Return the Markdown text of a file at `path`: the counts, the claims of each paper and the experiments."""
    findings = Path(os.path.relpath(FINDINGS, path.absolute().parent)).as_posix()
    parts = [
        f"# {TITLE}",
        INTRODUCTION,
        "This file is written by `python -m experiments.reproduce --output DIR --document FILE`. What else the "
        f"experiments show, with their tables and on other data: [findings]({findings}).",
        _markdown(verdict_rows(experiments)),
    ]
    for paper, title in PAPERS.items():
        parts += [f"## {title} (arXiv {paper})", _markdown(claim_rows(experiments, paper))]
    parts += ["## Experiments", TIMES, _markdown(experiment_rows(experiments))]
    return "\n\n".join(parts) + "\n"


def _claim_row(experiment: Experiment, claim: Mapping[str, str]) -> Row:
    return {
        "claim": claim["claim"],
        "verdict": claim["verdict"],
        "ours": claim.get("ours", ""),
        "n": claim.get("n", ""),
        "where printed": claim.get("place", ""),
        "command": experiment.command,
        "seconds": round(experiment.record.provenance["wall_time_s"]) if experiment.record else None,
    }


def _markdown(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table, or a sentence if there are none."""
    if not rows:
        return "Nothing was found."
    names = column_names(rows)
    lines = [names, ["---"] * len(names), *([_cell(name, row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(name: str, value: Any) -> str:
    text = " ".join(format_value(value).split())
    return f"`{text}`" if name == "command" else re.sub(r"([\\|*<])", r"\\\1", text)


def _hardware(device: Mapping[str, Any]) -> str:
    """Return the kind of device, how many were used, and of a CPU how many cores it has."""
    used, cores = device.get("used", 1), device.get("cores")
    kind = f"{used} × {device['kind']}" if used > 1 else device["kind"]
    return f"{kind}, {cores} cores" if device["platform"] == "cpu" and cores else kind
