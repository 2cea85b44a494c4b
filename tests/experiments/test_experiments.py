"""Every experiment and benchmark runs through its real entry in smoke mode and keeps the contract of its table."""

import functools
import json
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from bnjax.derivatives.terms import TERM_PARTS

COLUMNS = {
    "experiments.hessian_blocking": {
        "normalizer",
        "batch",
        "term",
        "part",
        "gradient_norm_output",
        "gradient_norm_input",
        "hessian_norm_output",
        "hessian_norm_input",
        "survival",
    },
    "experiments.blocking_spectrum": {"normalizer", "order", "survival"},
    "experiments.verify_theorems": {
        "theorem",
        "form",
        "dtype",
        "cases",
        "worst_error",
        "bound",
        "holds",
        "violated_cases_share",
    },
    "experiments.polynomial_orders": {"max_order", "order", "dtype", "mean", "std"},
    "experiments.frozen_statistics": {"statistics", "weights_moved"},
    "experiments.classification": {
        "model",
        "normalizer",
        "batches",
        "test_accuracy",
        "test_accuracy_std",
        "neighbour_accuracy",
        "seeds",
    },
    "experiments.layer_gradients": {"normalizer", "batches", "layer", "name", "squared_gradient", "std", "accuracy"},
    "experiments.performance": {"model", "normalizer", "learning_rate", "test_accuracy", "test_accuracy_std", "seeds"},
    "experiments.smoothness": {
        "normalizer",
        "step",
        "loss",
        "loss_range",
        "distance_max",
        "smoothness",
        "smoothness_std",
        "curvature",
        "seeds",
    },
    "experiments.deep_linear": {"normalizer", "step", "loss", "loss_range", "curvature", "seeds"},
    "experiments.lp_norms": {"normalizer", "step", "loss", "loss_range", "curvature", "seeds"},
    "experiments.trained_statements": {"epoch", "statement", "form", "features", "applies", "violated_share", "holds"},
    "experiments.noisy_batch_norm": {"normalizer", "step", "train_loss", "test_accuracy", "test_accuracy_std", "seeds"},
    "experiments.smoothness_report": {"experiment", "normalizer", "measure", "claim", "found"},
    "experiments.collapse_recovery": {"normalizer", "step", "collapsed", "recovered", "test_accuracy", "seeds"},
    "experiments.dead_region": {
        "normalizer",
        "activation",
        "margin",
        "gradient_norm",
        "eigenvalue_max",
        "eigenvalue_min",
        "dead",
        "seeds",
    },
    "experiments.filter_collapse": {
        "optimizer",
        "learning_rate",
        "start",
        "normalizer",
        "collapsed",
        "collapsed_std",
        "test_accuracy",
        "seeds",
    },
    "experiments.detection": {"normalizer", "ap", "ap_std", "ap50", "ap50_std", "recall", "collapsed", "seeds"},
    "experiments.sparsifying_probability": {
        "noise",
        "rate",
        "scale",
        "steps",
        "hits",
        "frequency",
        "cantelli",
        "chebyshev",
        "holds",
    },
    "experiments.four_losses": {"normalizer", "first", "second", "mean", "std", "batches"},
    "experiments.off_diagonal": {"model", "recipe", "coordinates", "part", "mean", "std", "features", "accuracy"},
    "experiments.linear_part": {
        "model",
        "recipe",
        "normalizer",
        "gradient_norm",
        "reference_norm",
        "ratio",
        "passing_ratio",
        "features",
        "left_out",
        "accuracy",
    },
    "experiments.blocked_by_layer": {
        "batch",
        "layer",
        "name",
        "epsilon",
        "dtype",
        "part",
        "survival",
        "predicted",
        "blocked_share",
        "variance_min",
        "variance_median",
        "dead",
        "seeds",
    },
    "experiments.blocked_over_training": {
        "normalizer",
        "epoch",
        "term",
        "part",
        "survival",
        "survival_std",
        "seeds",
        "accuracy",
    },
    "experiments.flow": {
        "batches",
        "normalizer",
        "bits_per_dimension",
        "bits_per_dimension_std",
        "gap",
        "gap_std",
        "seeds",
    },
    "experiments.audit": {
        "epoch",
        "number",
        "layer",
        "normalizer",
        "term",
        "part",
        "value",
        "gradient_norm_output",
        "gradient_norm_input",
        "survival",
    },
    "benchmarks.convolutions": {"case", "form", "chosen", "ours_s", "peer", "peer_s", "ratio", "difference"},
    "benchmarks.training_step": {"case", "ours_s", "peer", "peer_s", "ratio"},
    "benchmarks.hessian_products": {"case", "ours_s", "gradients", "counted", "peer", "peer_s", "ratio"},
    "benchmarks.curvature": {
        "case",
        "ours_s",
        "peer",
        "peer_s",
        "ratio",
        "ours_mib",
        "peer_mib",
        "difference",
        "reason",
    },
    "benchmarks.growth": {"path", "against", "time_exponent", "time_error", "time_counted", "memory_exponent"},
    "benchmarks.meter": {"case", "normalizers", "plain_s", "metered_s", "ratio", "asked", "difference"},
    "benchmarks.scaling": {"case", "devices", "rows_of_each", "seconds", "speedup", "memory_mib", "formula_mib"},
}


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """Return a function that runs a module once as `python -m` would and returns its folder and its record."""

    @functools.cache
    def run(name):
        folder = tmp_path_factory.mktemp("results") / "run"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [name, "--smoke", "--output", str(folder)])
            patch.delitem(sys.modules, name, raising=False)  # Another test may have imported it.
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        return folder, json.loads((folder / "result.json").read_text())

    return run


@pytest.mark.parametrize("name", COLUMNS)
def test_smoke_run_writes_its_table_figures_and_page(name, smoke_run):
    folder, record = smoke_run(name)
    table = record["results"]["table"]
    assert table
    for row in table:
        assert COLUMNS[name] <= set(row)
    assert (folder / "table.csv").exists()
    assert len(list(folder.glob("*.png"))) == len(list(folder.glob("*.svg"))) > 0
    assert "<svg" in (folder / "report.html").read_text(encoding="utf-8")
    assert record["results"]["failures"] == []


@pytest.mark.parametrize("name", COLUMNS)
def test_redrawing_finds_the_figures_of_an_experiment_in_its_module(name):
    assert callable(import_module(name).figures)


@pytest.mark.parametrize("name", COLUMNS)
def test_record_says_how_it_was_made(name, smoke_run):
    _, record = smoke_run(name)
    assert record["experiment"] == name
    assert record["config"]["smoke"] is True
    for entry in ("versions", "device", "dtype", "seed", "wall_time_s", "command"):
        assert entry in record


@pytest.mark.parametrize("name", ["experiments.frozen_statistics", "experiments.layer_gradients"])
def test_rows_over_two_devices_give_the_table_of_one(name, smoke_run, tmp_path):
    command = [sys.executable, "-m", name, "--smoke", "--devices", "2", "--output", str(tmp_path)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL, timeout=400)
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["device"]["used"] == record["config"]["devices"] == 2
    _, one = smoke_run(name)
    assert one["device"]["used"] == 1
    tolerance = {"float64": 1e-8, "float32": 1e-2}[record["dtype"]]
    for row, expected in zip(record["results"]["table"], one["results"]["table"], strict=True):
        assert row.keys() == expected.keys()
        for key, value in expected.items():
            near = pytest.approx(value, rel=tolerance, abs=1e-12) if isinstance(value, float) else value
            assert row[key] == near, key


@pytest.mark.parametrize("name", ["experiments.hessian_blocking"])
def test_every_network_is_measured_with_its_own_head(name, smoke_run):
    _, record = smoke_run(name)
    # At the expansion point the gradient follows from head and label alone, whatever the rows of one class are.
    norms = {
        row["seed"]: row["gradient_norm_output"]
        for row in record["results"]["batches"]
        if (row["normalizer"], row["batch"], row["batch_number"]) == ("batch_norm", "single_class", 0)
        and (row["term"], row["part"]) == ("gradient", "total")
    }
    assert norms[1] != pytest.approx(norms[0], rel=1e-3)


@pytest.mark.parametrize("name", ["experiments.hessian_blocking"])
def test_every_part_is_reported_for_every_normalizer_and_kind_of_batch(name, smoke_run):
    _, record = smoke_run(name)
    expected = {
        (normalizer, kind, term, part)
        for normalizer in ("none", "batch_norm", "layer_norm")
        for kind in ("single_class", "mixed")
        for term, part in TERM_PARTS
    }
    table = record["results"]["table"]
    assert {(row["normalizer"], row["batch"], row["term"], row["part"]) for row in table} == expected
