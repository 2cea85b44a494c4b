"""The report runs every experiment on smoothness once and gathers what they found."""

import json
from pathlib import Path

import pytest

from bnjax.reporting.records import Record, write_record
from experiments.parts import run_parts
from experiments.smoothness_report import Config, failures, figures, found_in, run


def kept(output: Path, command: str, results: dict | None = None) -> Path:
    """Write the record of a run of `experiments.demo` and return the folder of all."""
    origin, some = {"command": command}, {"table": [{"loss": 1.0}], "failures": []}
    write_record(output / "demo", Record("experiments.demo", {}, origin, results or some))
    return output


def command(output: Path) -> str:
    return f"python -m experiments.demo --output {output / 'demo'} --seed 3"


def test_an_experiment_that_was_run_already_is_read_and_not_run_again(tmp_path):
    output = kept(tmp_path, command(tmp_path))
    assert run_parts({"demo": ["--seed", "3"]}, output)["demo"].results["table"] == [{"loss": 1.0}]


def test_the_result_of_another_command_is_refused(tmp_path):
    output = kept(tmp_path, command(tmp_path))
    with pytest.raises(ValueError, match="--seed 4\ngive another --output"):
        run_parts({"demo": ["--seed", "4"]}, output)


def test_the_same_command_is_known_by_another_name_of_its_folder(tmp_path, monkeypatch):
    output, part = kept(tmp_path, command(tmp_path)), {"demo": ["--seed", "3"]}
    monkeypatch.chdir(tmp_path)
    assert run_parts(part, Path()) == run_parts(part, output)


def test_what_is_not_a_result_of_the_experiment_is_refused(tmp_path):
    output = kept(tmp_path, command(tmp_path), {"table": [{"loss": 1.0}]})
    with pytest.raises(ValueError, match="needs to hold a result of"):
        run_parts({"demo": ["--seed", "3"]}, output)
    (output / "demo" / "result.json").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"result\.json is not the record of a run: .*; remove it"):
        run_parts({"demo": ["--seed", "3"]}, output)


def test_an_experiment_that_leaves_no_result_ends_the_report(tmp_path):
    with pytest.raises(ChildProcessError, match=r"absent ended with exit status 1 and without a result"):
        run_parts({"absent": []}, tmp_path)


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
    config = Config(parts=("lp_norms", "deep_linear"), output=tmp_path)
    for part in config.parts:
        lines = ["step 0: loss is nan"] if part == "deep_linear" else []
        results = {"table": [{"loss": 1.0}], "tests": [test], "data": "digits", "failures": lines}
        results |= {"claims": [{"claim": f"What {part} tests.", "verdict": "partly"}]} if part == "lp_norms" else {}
        command = " ".join(
            ["python", "-m", f"experiments.{part}", "--output", str(tmp_path / part), *config.arguments(part)]
        )
        origin = {"command": command, "wall_time_s": 1.0, "git_commit": None}
        write_record(tmp_path / part, Record(f"experiments.{part}", {}, origin, results))
    results = run(config)
    assert [row["experiment"] for row in results["table"]] == ["lp_norms", "deep_linear"]
    assert results["claims"] == [{"claim": "What lp_norms tests.", "verdict": "partly"}]
    assert failures(results) == ["deep_linear: step 0: loss is nan"]
    drawn = figures(json.loads(json.dumps(results)), {"seeds": 3, "seed": 0})
    assert list(drawn) == ["claims"]
