"""How does a trajectory look? The figures of what `trajectory` measures."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from experiments.common.averages import left_out
from experiments.common.trajectory import GEOMETRIC

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of the Gaussian that a density is smoothed by, in units of the largest eigenvalue; and where it is drawn.
WIDTH = 0.03
PLACES = np.linspace(-1.1, 1.1, 221)
# A Gaussian falls below any number.
FLOOR = 1e-4


def figures(results: dict[str, Any], config: dict[str, Any], *, network: str) -> "dict[str, Figure]":
    """Draw the landscape along the gradient, distances, smoothness, curvature, spectra and both measures of layers."""
    from bnjax.reporting.figures import lines

    setting = (
        f"{results['data']}; {network}, SGD (rate {config['learning_rate']:g}), batches of {config['batch_size']}; "
        "live statistics"
    )
    seeds = f"{config['seeds']} seeds from {config['seed']}{left_out(results)}"
    caption = f"{setting}; mean and standard deviation over {seeds}"
    low, high = config["step_range"]
    along = f"; step sizes {low:g} to {high:g} times the rate"
    of_points = partial(lines, results["table"], x="step", series="normalizer", x_label="training step")
    band = [
        {**row, "middle": (row["loss_max"] + row["loss_min"]) / 2, "half": (row["loss_max"] - row["loss_min"]) / 2}
        for row in results["table"]
    ]
    drawn = {
        "loss_landscape": lines(
            band,
            x="step",
            y="middle",
            spread="half",
            series="normalizer",
            x_label="training step",
            y_label="loss along the gradient",
            log_y=all(row["loss_min"] > 0 for row in results["table"]),
            title="The range of the loss along its gradient",
            caption=f"{setting}{along}; bands from the smallest to the largest loss, a line in their middle; means "
            f"over {seeds}",
        )
    }
    for name, measure, label, title in (
        ("gradient_predictiveness", "distance_max", "largest ‖∇L(θ - ηg) - g‖", "How far the gradient changes"),
        ("effective_smoothness", "smoothness", "largest ‖∇L(θ - ηg) - g‖ / ‖ηg‖", "Effective β-smoothness"),
        ("curvature", "curvature", "gᵀHg / ‖g‖², exact", "The curvature along the gradient"),
    ):
        drawn[name] = of_points(
            y=measure,
            spread=f"{measure}_std",
            y_label=label,
            title=title,
            caption=caption if name == "curvature" else caption + along,
            log_y=measure in GEOMETRIC and all(row[measure] > 0 for row in results["table"]),
        )
    drawn["eigenvalues"] = lines(
        [
            {**row, "end": end, "eigenvalue": row[key], "std": row[f"{key}_std"]}
            for end, key in (("largest", "eigenvalue_max"), ("smallest", "eigenvalue_min"))
            for row in results["spectrum"]
        ],
        x="step",
        y="eigenvalue",
        spread="std",
        series="normalizer",
        panels="end",
        x_label="training step",
        y_label="eigenvalue of the Hessian",
        title="The ends of the Hessian's spectrum",
        caption=f"{caption}; {config['lanczos_steps']} products of Lanczos' method",
    )
    drawn["spectral_density"] = lines(
        _densities(results["ritz"]),
        x="eigenvalue",
        y="density",
        series="normalizer",
        panels="at",
        log_y=True,
        x_label="eigenvalue / largest |eigenvalue|",
        y_label="density",
        title="How the Hessian's eigenvalues are distributed",
        caption=f"{setting}; {config['lanczos_steps']} products of Lanczos' method from a random start for each of "
        f"{seeds}; smoothed by a Gaussian of width {WIDTH:g}; mean over them, {FLOOR:g} and less at the bottom",
    )
    shown = {row["layer"] for row in results["covariate_shift"]}
    shown = sorted({min(shown), (min(shown) + max(shown)) // 2, max(shown)})
    drawn["internal_covariate_shift"] = lines(
        [row for row in results["covariate_shift"] if row["layer"] in shown],
        x="step",
        y="cosine",
        spread="cosine_std",
        series="normalizer",
        panels="layer",
        x_label="training step",
        y_label="cosine of G and G', 1: no shift",
        title="How a layer's gradient turns when the layers before it take a step",
        caption=f"{caption}; layer 1 has none before it",
    )
    drawn["blocked_share"] = lines(
        [{**row, "at": f"step {row['step']}"} for row in _ends(results["blocked_share"])],
        x="layer",
        y="removed",
        spread="removed_std",
        series="normalizer",
        panels="at",
        log_y=True,
        x_label="normalizer, from the input on",
        y_label="share of ‖G‖²",
        title="How much of the gradient batch normalization removes, or would remove",
        caption=f"{caption}; G at the standardized output; its mean and its part along ŷ (S1)",
    )
    return drawn


def _ends(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    steps = [row["step"] for row in rows]
    return [row for row in rows if row["step"] in (min(steps), max(steps))]


def _densities(ritz: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the density of the eigenvalues at the first and the last step, each seed's in its own unit."""
    ends = _ends(ritz)
    rows = []
    for name, step in dict.fromkeys((row["normalizer"], row["step"]) for row in ends):
        own = [row for row in ends if (row["normalizer"], row["step"]) == (name, step)]
        of_seeds = [_density([row for row in own if row["seed"] == seed]) for seed in {row["seed"] for row in own}]
        rows += [
            {"normalizer": name, "at": f"step {step}", "eigenvalue": place, "density": max(density, FLOOR)}
            for place, density in zip(PLACES.tolist(), np.mean(of_seeds, axis=0).tolist(), strict=True)
        ]
    return rows


def _density(ritz: list[dict[str, Any]]) -> np.ndarray:
    values = np.asarray([row["value"] for row in ritz])
    return norm.pdf(PLACES[:, None], values / np.max(np.abs(values)), WIDTH) @ [row["weight"] for row in ritz]
