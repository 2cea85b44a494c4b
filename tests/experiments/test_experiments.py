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
        "violated_share",
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
    "benchmarks.head_hessians": {"case", "features", "rows", "ours_s", "peer", "peer_s", "ratio"},
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


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        (
            "hessian_blocking",
            {"normalizer": "batch_norm", "term": "gradient", "part": "shared", "survival": 0.5, "batch": "mixed"},
        ),
        ("blocking_spectrum", {"normalizer": "batch_norm", "order": 1, "survival": 0.5}),
        ("verify_theorems", {"theorem": "T1", "dtype": "float64", "worst_error": 1.0, "bound": 0.1, "holds": False}),
        ("polynomial_orders", {"order": 1, "max_order": 4, "dtype": "float64", "mean": 0.5}),
        ("frozen_statistics", {"statistics": "live", "weights_moved": 0.5}),
        ("four_losses", {"normalizer": "batch_norm", "first": 1, "second": 3, "mean": 1e-6}),
        (
            "blocked_by_layer",
            {"name": "a", "batch": "random", "part": "mean", "epsilon": 0.0, "dtype": "float64"}
            | {"survival": 1e-3, "predicted": 0.0},
        ),
        (
            "blocked_over_training",
            {"normalizer": "batch_norm", "epoch": 0, "term": "gradient", "part": "shared", "survival": 1e-3},
        ),
        (
            "trained_statements",
            {"statement": "S1", "epoch": 0, "missed_by_at_most": 1.0, "violated_share": 1.0, "holds": False},
        ),
        (
            "sparsifying_probability",
            {"noise": "gaussian", "rate": 1.0, "scale": 2.0, "hits": 90, "steps": 100, "tail": 0.02, "cantelli": 0.2}
            | {"holds": False, "as_derived": True},
        ),
        (
            "dead_region",
            {"normalizer": "batch_norm", "activation": "relu", "margin": -0.5, "dead": True}
            | {"gradient_norm_max": 1e-20, "hessian_max": 0.0},
        ),
        (
            "filter_collapse",
            {"normalizer": "batch_norm", "optimizer": "sgd", "learning_rate": 0.1, "start": "scratch"}
            | {"collapsed": 1.5},
        ),
        ("audit", {"layer": "norm", "epoch": 0, "difference": 1e-6, "rounding": 1e-12}),
        ("linear_part", {"model": "lenet_v1", "recipe": "adam", "normalizer": "batch_norm", "ratio": 1e-9}),
    ],
)
def test_experiment_fails_when_its_result_contradicts_the_theory(name, spoil):
    failures = import_module(f"experiments.{name}").failures
    assert failures({"table": [spoil], "layers": [spoil], "epsilon": [], "slopes": [], "features": []})
