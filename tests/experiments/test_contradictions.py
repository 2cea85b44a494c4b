"""An experiment whose result contradicts the theory fails."""

from importlib import import_module

import pytest


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
