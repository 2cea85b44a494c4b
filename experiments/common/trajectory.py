"""How smooth is a loss along its own gradient while a network is trained? What is found over a whole trajectory.

A network is trained with each normalizer, from the same seeds, on the same batches. Before the first step and after
every stretch of steps is measured what `experiments.common.trajectory_point` says.
"""

from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any

from bnjax.data import LabelledImages
from bnjax.training import Recipe
from experiments.common.averages import compared, over_seeds, paired_test
from experiments.common.observed import observed_from_every_seed
from experiments.common.stretches import stretch_of_batches
from experiments.common.trajectory_options import TrajectoryOptions
from experiments.common.trajectory_point import measured_point

MEASURES = ("loss", "gradient_norm", "loss_min", "loss_max", "loss_range", "distance_max", "smoothness", "curvature")
SPECTRUM = ("eigenvalue_max", "eigenvalue_min", "error_bound", "trace", "trace_error")
# Of those, what is positive and goes over orders of magnitude.
GEOMETRIC = ("loss_range", "distance_max", "smoothness")
# Of single precision, in what is one or nothing.
ROUNDING = 1e-3
# What the paper says of batch normalization in comparison.
CLAIMS = {
    "loss": "smaller: trains faster",
    "loss_range": "smaller",
    "distance_max": "smaller",
    "smoothness": "smaller",
    "curvature": "smaller (theorem 4.2)",
    "distance": "not smaller (covariate shift)",
    "cosine": "not larger (covariate shift)",
}


def followed(
    config: TrajectoryOptions, recipes: Mapping[str, Recipe], train_data: LabelledImages, test_data: LabelledImages
) -> dict[str, Any]:
    """Train every normalizer's recipe from every seed and measure the loss on the way: an experiment's results."""
    points, spectrum, ritz, layers, normalizers, landscape, curves, diverged = [], [], [], [], [], [], [], []
    runs = observed_from_every_seed(
        config,
        recipes,
        train_data,
        test_data,
        seeds=config.seeds,
        order=partial(stretch_of_batches, config.stretch),
        observe=partial(measured_point, config, train_data),
        diverged=diverged,
    )
    for which, (trained, measured) in runs:
        curves += [{**which, "step": row["epoch"] * config.stretch, **row} for row in trained.history]
        for epoch, found in enumerate(measured):
            where = {**which, "step": epoch * config.stretch}
            points.append({**where, **found["point"]})
            spectrum += [{**where, **row} for row in found["spectrum"]]
            ritz += [{**where, **row} for row in found["ritz"]]
            landscape += [{**where, **row} for row in found["landscape"]]
            layers += [{**where, **row} for row in found["layers"]]
            normalizers += [{**where, **row} for row in found["normalizers"]]
    score = f"test_{next(iter(recipes.values())).score.__name__}"
    return {
        "table": over_seeds(points, ("normalizer", "step"), MEASURES),
        "spectrum": over_seeds(spectrum, ("normalizer", "step"), SPECTRUM),
        "ritz": ritz,
        "curves": over_seeds(curves, ("normalizer", "step"), ("train_loss", score)),
        "tests": _paired_tests(points, layers, config.normalizers, config.seeds),
        "landscape": over_seeds(landscape, ("normalizer", "step", "step_size"), ("loss", "distance", "smoothness")),
        "covariate_shift": over_seeds(layers, ("normalizer", "step", "layer", "name"), ("distance", "cosine", "norm")),
        "blocked_share": over_seeds(normalizers, ("normalizer", "step", "layer", "name"), ("mean", "along", "removed")),
        "runs": points,
        "diverged": diverged,
        "data": f"trained and measured on {train_data.name}; tested on {test_data.name}",
    }


def _paired_tests(
    points: list[dict[str, Any]], layers: list[dict[str, Any]], normalizers: tuple[str, ...], seeds: int
) -> list[dict[str, Any]]:
    """Compare every normalizer with the first, seed by seed, in the mean over the trajectory: a paired t-test.

    Of what goes over orders of magnitude the mean is the geometric one (`GEOMETRIC`).
    """
    return [
        paired_test(
            layers if measure in ("distance", "cosine") else points,
            name,
            normalizers[0],
            measure,
            claim,
            seeds=seeds,
            geometric=measure in GEOMETRIC,
        )
        for name, (measure, claim) in product(normalizers[1:], CLAIMS.items())
    ]


def failures(results: dict[str, Any]) -> list[str]:
    """Return what cannot be: a shift of the layer that has none before it, a share that is none.

    What the other measurements say is a result, not a check; a run with one that is not finite is one of `diverged`.
    """
    shifted = [
        f"{row['normalizer']}, step {row['step']}: the gradient of layer 1, with none before it, turns by "
        f"{1 - row['cosine']:.1g}"
        for row in results["covariate_shift"]
        if row["layer"] == 1 and row["norm"] > 0 and not row["cosine"] > 1 - ROUNDING
    ]
    shares = [
        f"{row['normalizer']}, step {row['step']}, {row['name']}: a share of {row['removed']:.6g} is removed"
        for row in results["blocked_share"]
        if row["removed"] is not None and not 0 <= row["removed"] <= 1 + ROUNDING
    ]
    return shifted + shares


def summary(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the paired comparisons over the whole trajectory."""
    return compared(results["tests"])
