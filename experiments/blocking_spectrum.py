"""Which Taylor orders get back through which normalizer, and how does epsilon open batch normalization?

    python -m experiments.blocking_spectrum
    python -m experiments.blocking_spectrum --dataset mnist --data-dir DIR

Small convolutional networks are trained for a moment on the embedded digits, or on other images, with batch
normalization before the ReLU. Then the orders 1 … 6 of each one's own loss are carried back through every normalizer of
the library, from the same features, and the first one's diagonal term through batch normalization with growing epsilon.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import numpy as np

import bnjax
from bnjax.normalizers import (
    Normalizer,
    batch_norm,
    batch_renorm,
    detached_batch_norm,
    frozen_batch_norm,
    ghost_batch_norm,
    group_norm,
    identity,
    instance_norm,
    layer_norm,
    lp_norm,
    noisy_batch_norm,
    post_shifted_batch_norm,
    rms_norm,
)
from experiments.common.claim import BLINDNESS, OWN_QUESTION, Claim, verdict, with_spread
from experiments.common.command import main
from experiments.common.progress import progress
from experiments.common.small_network import NetworkOptions, TrainedNetwork, averaged, batches, told
from experiments.common.threads import call_in_threads

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What the theory says is zero: in a single-class batch all coefficients are shared.
BLOCKED = 1e-12


@dataclass(frozen=True)
class Config(NetworkOptions):
    """Carry the Taylor orders of the loss back through every normalizer, on single-class batches."""

    least: ClassVar[Mapping[str, int]] = {**NetworkOptions.least, "rows": 4, "features": 2}

    features: int = 4
    """Channels at the normalizer, an even number for two groups, on 4×4 positions."""
    batches: int = 5
    """Single-class batches for each network; batch k holds class k mod 10."""
    max_order: int = 6
    """Highest order."""
    epsilons: int = 11
    """Values of ε from 1e-8 to 100 for the diagonal term, beside ε = 0."""

    def __post_init__(self) -> None:
        """Check that rows and features can be halved, for the ghost batches and for the groups."""
        super().__post_init__()
        for name, count in (("rows", self.rows), ("features", self.features)):
            if count % 2:
                raise ValueError(f"--{name} needs to be an even number, got {count}; take {count + 1}")

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, rows=8, hidden=8, steps=20, seeds=2, batches=2, max_order=3, epsilons=2)


def run(config: Config) -> dict[str, Any]:
    """Train, then measure every normalizer on every batch and average over these, then over the networks."""
    networks = config.trained_networks(batch_norm(epsilon=0.0), convolutional=True)
    chosen = {
        seed: batches(network, config.rows, "single_class", config.batches, seed) for seed, network in networks.items()
    }

    def measure(normalizer: Normalizer) -> list[dict]:
        return [
            {"seed": seed, **row, "batch_number": number}
            for seed, network in networks.items()
            for number, indices in enumerate(chosen[seed])
            for row in _spectrum(config, network, normalizer, indices).to_rows()
            if row["part"] == "shared" or row["order"] == "remainder"
        ]

    tasks = [partial(measure, normalizer) for normalizer in _normalizers(config)]
    measured = call_in_threads(tasks, "carrying orders back", devices=config.devices)
    per_batch = [row for rows in measured for row in rows]
    runs = averaged(per_batch, ("seed", "normalizer", "order"), ("survival",), counted="batches")
    return {
        "table": averaged(runs, ("normalizer", "order"), ("survival",), counted="seeds"),
        "runs": runs,
        "batches": per_batch,
        "epsilon": _against_epsilon(config, networks[config.seed], chosen[config.seed][0]),
        "networks": [{"seed": seed, "training_accuracy": network.accuracy} for seed, network in networks.items()],
        "data": networks[config.seed].data,
    }


def failures(results: dict[str, Any]) -> list[str]:
    """Return what contradicts the theory."""
    complaints = [
        f"batch_norm lets the shared order 1 through: survival {row['survival']:.1e}"
        for row in results["table"]
        if (row["normalizer"], row["order"]) == ("batch_norm", 1) and (row["survival"] or 0.0) > BLOCKED
    ]
    complaints += [
        f"the diagonal term's survival {row['survival']:.3e} is not ε/(σ² + ε) at {row['ratio']:.1e}"
        for row in results["epsilon"]
        if row["survival"] is not None and abs(row["survival"] - row["formula"]) > 1e-8 * row["formula"] + BLOCKED
    ]
    return complaints


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of the paper's claims on the orders from the second on, judged network by network."""
    rows = [row for row in results["table"] if row["normalizer"] == "batch_norm" and row["survival"] is not None]
    second = [row for row in rows if row["order"] == 2]
    higher = [row for row in rows if row["order"] not in (1, 2, "remainder")]

    def claim(place: str, text: str, of: list[dict[str, Any]], holds: Callable[[dict[str, Any]], bool]) -> Claim:
        orders = {row["order"] for row in of}
        runs = [run for run in results["runs"] if run["normalizer"] == "batch_norm" and run["order"] in orders]
        survivals = (f"{with_spread(row['survival'], row['survival_std'])} (order {row['order']})" for row in of)
        return Claim(
            paper=BLINDNESS,
            place=place,
            claim=text,
            ours=f"survival {', '.join(survivals)}",
            n=f"{told(of[0], config)}, {config['batches']} batches of {config['rows']} rows of one class each; "
            f"{results['data']}",
            verdict=verdict((holds(run) for run in runs if run["survival"] is not None), samples=of[0]["seeds"]),
        )

    found = []
    if second:  # Most is blocked where less than half of the square of the order's gradient gets back.
        text = "Batch normalization blocks most of the influence of the loss's second order, taken as a whole."
        found.append(claim("abstract", text, second, lambda run: run["survival"] ** 2 < 0.5))
    if higher:
        text = "In a trained network too, orders from the third on get back through batch normalization."
        found.append(claim(OWN_QUESTION, text, higher, lambda run: run["survival"] > BLOCKED))
    return found


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw survival against order and against epsilon."""
    from bnjax.reporting.figures import grid, lines

    caption = (
        f"{results['data']}; shared part, mean and standard deviation over {config['seeds']} networks, "
        f"{config['batches']} single-class batches of {config['rows']} rows each, {config['features']} channels on 4×4 "
        f"positions; seeds from {config['seed']}; float64, ε = 0"
    )
    drawn = {
        "orders": grid(
            results["table"],
            line="normalizer",
            column="order",
            value="survival",
            spread="survival_std",
            column_label="Taylor order k",
            value_label="survival of the order's shared part",
            title="Which orders of the loss get back through which normalizer",
            caption=caption,
        )
    }
    against_epsilon = [row for row in results["epsilon"] if row["ratio"] > 0 and row["survival"] is not None]
    if against_epsilon:
        drawn["epsilon"] = lines(
            _with_formula(against_epsilon),
            x="ratio",
            y="survival",
            series="feature",
            x_label="ε / σ² of the feature",
            y_label="survival of the shared diagonal term",
            log_x=True,
            log_y=True,
            title="Epsilon opens the diagonal term: ε / (σ² + ε)",
            caption=f"{results['data']}; one single-class batch of {config['rows']} rows; "
            f"seed {config['seed']}; float64",
        )
    return drawn


def _with_formula(measured: list[dict]) -> list[dict]:
    """Return the measured rows after a line of the formula, drawn finely enough to be seen as the curve that it is."""
    ratios = [row["ratio"] for row in measured]
    fine = np.geomspace(min(ratios), max(ratios), 100)
    return [{"feature": "formula", "ratio": r, "survival": r / (1 + r)} for r in fine.tolist()] + measured


def _normalizers(config: Config) -> tuple[Normalizer, ...]:
    """Return every normalizer at ε = 0; frozen and renormalized ones start from statistics of another batch."""
    return (
        identity(affine=True),
        batch_norm(epsilon=0.0),
        post_shifted_batch_norm(epsilon=0.0),
        noisy_batch_norm(epsilon=0.0),
        ghost_batch_norm(ghost_size=config.rows // 2, epsilon=0.0),
        batch_renorm(epsilon=0.0),
        frozen_batch_norm(epsilon=0.0),
        detached_batch_norm(epsilon=0.0),
        layer_norm(epsilon=0.0),
        rms_norm(epsilon=0.0),
        group_norm(groups=2, epsilon=0.0),
        instance_norm(epsilon=0.0),
        lp_norm(p=1, epsilon=0.0),
        lp_norm(p=math.inf, epsilon=0.0),
    )


def _spectrum(
    config: Config, network: TrainedNetwork, normalizer: Normalizer, indices: np.ndarray
) -> bnjax.SpectrumReport:
    x = network.features[indices]
    if normalizer.name == "identity":
        plain = batch_norm(epsilon=0.0, affine=False)
        x, _ = plain.apply(*plain.init(x), x)
    stats = _statistics(network) if normalizer.name in ("batch_renorm", "frozen_batch_norm") else None
    x, labels = config.over_devices((x, network.labels[indices]))
    return bnjax.spectrum(
        network.head,
        normalizer,
        x,
        labels,
        max_order=config.max_order,
        params=network.norm_params,
        stats=stats,
        key=jax.random.key(config.seed),
    )


def _statistics(network: TrainedNetwork) -> dict[str, Any]:
    """Return the statistics of all test features, as a trained network's running statistics would be."""
    axes = tuple(range(network.features.ndim - 1))
    return {"mean": np.mean(network.features, axes), "variance": np.var(network.features, axes)}


def _against_epsilon(config: Config, network: TrainedNetwork, indices: np.ndarray) -> list[dict]:
    """Return the survival of each feature's shared diagonal term for growing ε, beside its formula (T2)."""
    x = network.features[indices]
    axes = tuple(range(x.ndim - 1))
    variance = np.var(x, axes)
    batch = config.over_devices((x, network.labels[indices]))
    rows = []
    for epsilon in progress((0.0, *np.logspace(-8, 2, config.epsilons).tolist()), "against epsilon"):
        normalizer = batch_norm(epsilon=epsilon)
        report = bnjax.blocking(network.head, normalizer, *batch, params=network.norm_params)
        part = report.terms["diagonal"].shared
        assert part is not None
        norms = [np.sqrt(np.sum(np.square(side), axes)) for side in (part.input_gradient, part.output_gradient)]
        survival = np.sqrt(variance + epsilon) * norms[0] / np.where(norms[1] > 0, norms[1], 1.0)
        rows += [
            {
                "feature": feature,
                "epsilon": epsilon,
                "ratio": float(epsilon / variance[feature]),
                "survival": float(survival[feature]) if norms[1][feature] > 0 else None,
                "formula": float(epsilon / (variance[feature] + epsilon)),
                "reason": "" if norms[1][feature] > 0 else "the feature is off at the expansion point",
            }
            for feature in range(config.features)
        ]
    return rows


if __name__ == "__main__":
    main(
        run,
        Config,
        name="experiments.blocking_spectrum",
        figures=figures,
        failures=failures,
        claims=claims,
        sooner=True,
    )
