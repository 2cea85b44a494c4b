"""The report runs every experiment on smoothness once and gathers what they found."""

import json
from pathlib import Path

import pytest

from bnjax.reporting.records import Record, write_record
from experiments.smoothness_report import Config, failures, figures, found_in, run


def test_a_part_that_leaves_no_result_ends_the_report(tmp_path, stand_in):
    for name in ("lp_norms", "deep_linear"):
        stand_in(name, "import sys; sys.exit('error: no memory')")
    with pytest.raises(ChildProcessError, match=r"lp_norms left no result: no memory .*; deep_linear left no result"):
        run(Config(parts=("lp_norms", "deep_linear"), output=tmp_path))


def test_the_folder_of_images_goes_to_the_experiments_that_read_images():
    config = Config(data_dir=Path("images"), preset="paper", seeds=4)
    assert config.arguments("performance")[-2:] == ["--data-dir", "images"]
    assert config.arguments("deep_linear") == ["--seed", "0", "--seeds", "4", "--preset", "paper"]


def test_a_statement_as_printed_is_contradicted_by_one_feature_that_violates_it():
    rows = [
        {"statement": "S1", "form": "derived", "epoch": 0, "violated_share": 0.0},
        {"statement": "S1", "form": "printed", "epoch": 0, "violated_share": 0.0},
        {"statement": "S3", "form": "printed", "epoch": 5, "violated_share": 0.01},
    ]
    found = found_in(Record("experiments.demo", {}, {}, {"table": rows}))
    assert [(row["measure"], row["found"]) for row in found] == [
        ("S1 as printed, epoch 0", "not contradicted"),
        ("S3 as printed, epoch 5", "contradicted at 1%"),
    ]


def test_the_report_gathers_claims_and_failed_checks_of_every_part(tmp_path):
    test = {
        "normalizer": "batch_norm",
        "against": "none",
        "measure": "loss",
        "claim": "smaller",
        "mean_against": 2.0,
        "mean": 1.0,
        "p": 0.01,
        "found": "shown",
    }
    claim = {"paper": "arXiv 1805.11604", "claim": "What lp_norms tests.", "verdict": "partly"}
    config = Config(parts=("lp_norms", "deep_linear"), output=tmp_path)
    for part in config.parts:
        lines = ["step 0: loss is nan"] if part == "deep_linear" else []
        results = {"table": [{"loss": 1.0}], "tests": [test], "data": "digits", "failures": lines}
        results |= {"claims": [claim]} if part == "lp_norms" else {}
        command = " ".join(
            ["python", "-m", f"experiments.{part}", "--output", str(tmp_path / part), *config.arguments(part)]
        )
        origin = {"command": command, "wall_time_s": 1.0, "git_commit": None, "started": "2026-05-04T03:02:01+00:00"}
        origin |= {"device": {"platform": "cpu", "kind": "cpu"}}
        write_record(tmp_path / part, Record(f"experiments.{part}", {}, origin, results))
    results = run(config)
    assert [row["experiment"] for row in results["table"]] == ["lp_norms", "deep_linear"]
    assert results["claims"] == [claim]
    assert failures(results) == ["deep_linear: step 0: loss is nan"]
    drawn = figures(json.loads(json.dumps(results)), {"seeds": 3, "seed": 0})
    assert list(drawn) == ["claims"]
