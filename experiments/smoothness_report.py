"""What does batch normalization do for optimization? Every experiment on it, and what was found of each claim.

    python -m experiments.smoothness_report
    python -m experiments.smoothness_report --preset paper --data-dir DIR

Runs `lp_norms` (the trajectory of `smoothness`, with two norms more), `performance`, `noisy_batch_norm`, `deep_linear`
and `trained_statements`, each in a folder of its own in the output, where its tables and figures are; what it prints is
beside that. Gathers what they say of the claims of arXiv 1805.11604. A report that was interrupted goes on where it
stopped when it is given the same `--output`.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from bnjax.reporting.records import Record
from experiments.common.averages import SIGNIFICANT
from experiments.common.command import main
from experiments.common.options import BESIDE_TRAINING, Options
from experiments.common.parts import command_line, run_parts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Part = Literal["lp_norms", "performance", "noisy_batch_norm", "deep_linear", "trained_statements"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class Config(Options):
    """Run every experiment on smoothness and gather what was found of the paper's claims."""

    parts: tuple[Part, ...] = PARTS
    """The experiments to run; with --smoke performance and trained_statements unless given."""
    seeds: int = 3
    """Runs of every kind, with the seeds seed, seed + 1, …"""
    data_dir: Path | None = field(default=None, metadata=BESIDE_TRAINING)
    """Folder of prepared image sets, for the published sizes; TFDS_DATA_DIR or ~/tensorflow_datasets if not given."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, parts=("performance", "trained_statements"), seeds=2)

    def arguments(self, part: Part) -> list[str]:
        """Return the command line of an experiment."""
        given = ["--seed", str(self.seed), "--seeds", str(self.seeds), "--preset", self.preset]
        smoke = ["--smoke"] if self.smoke else []
        return command_line(part, [*given, *smoke], devices=self.devices, data_dir=self.data_dir)


def run(config: Config) -> dict[str, Any]:
    """Run the experiments and gather their claims."""
    assert config.output is not None, "main always gives an output"
    records, reasons = run_parts({part: config.arguments(part) for part in config.parts}, config.output)
    if reasons:
        raise ChildProcessError("; ".join(f"{part} left no result: {reason}" for part, reason in reasons.items()))
    return {
        "table": [{"experiment": part, **row} for part, record in records.items() for row in found_in(record)],
        "parts": [
            {
                "experiment": part,
                "command": record.provenance["command"],
                "wall_time_s": record.provenance["wall_time_s"],
                "git_commit": record.provenance["git_commit"] or "no git checkout",
                "data": record.results["data"],
            }
            for part, record in records.items()
        ],
        "claims": [row for record in records.values() for row in record.results.get("claims", [])],
        "part_failures": [f"{part}: {line}" for part, record in records.items() for line in record.results["failures"]],
    }


def found_in(record: Record) -> list[dict[str, Any]]:
    """Return a row for each claim on which an experiment has an opinion.

    Either of two normalizers compared (`common.averages.paired_test`), or of a statement as printed, with the share of
    features that violate it.
    """
    if "tests" in record.results:
        return record.results["tests"]
    return [
        {
            "normalizer": "batch_norm",
            "measure": f"{row['statement']} as printed, epoch {row['epoch']}",
            "claim": "holds at every feature",
            "found": f"contradicted at {row['violated_share']:.0%}"
            if row["violated_share"] > 0
            else "not contradicted",
        }
        for row in record.results["table"]
        if row["form"] == "printed"
    ]


def failures(results: dict[str, Any]) -> list[str]:
    """Return the checks that the experiments failed."""
    return results["part_failures"]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw how the measures of two normalizers compare, and whether that is what the paper says."""
    from bnjax.reporting.figures import dots

    compared = [
        {
            "compared": f"{row['experiment']}: {row['measure']}, {row['normalizer']} beside {row['against']}: "
            f"{row['claim']}",
            "difference": _relative_difference(row["mean"], row["mean_against"]),
            "claim": row["found"],
        }
        for row in results["table"]
        if row.get("mean_against") is not None
    ]
    if not compared:
        return {}
    data = "; ".join(dict.fromkeys(part["data"] for part in results["parts"]))
    return {
        "claims": dots(
            compared,
            name="compared",
            value="difference",
            series="claim",
            name_label="",  # The names are sentences.
            value_label="difference / (|mean| + |mean beside it|); ±1/3: twice or half as much",
            title="What is said of batch normalization, and what was found",
            caption=f"{data}; {config['seeds']} seeds from {config['seed']}; claims of arXiv 1805.11604, paired "
            f"t-tests over the seeds at the level {SIGNIFICANT}",
        )
    }


def _relative_difference(mean: float, against: float) -> float:
    """Return a difference between -1 and 1, which two numbers of either sign have."""
    size = abs(mean) + abs(against)
    return (mean - against) / size if size else 0.0


if __name__ == "__main__":
    shown = ("experiment", "normalizer", "against", "measure", "claim", "mean_against", "mean", "p", "seeds", "found")
    main(run, Config, name="experiments.smoothness_report", figures=figures, failures=failures, columns=shown)
