"""How likely does one step of SGD switch a filter off, against learning rate and scale?

    python -m experiments.sparsifying_probability
    python -m experiments.sparsifying_probability --model vgg_a_narrow --batches 200

A step `γ - η G` of a filter's scale reaches the dead region, γ ≤ 0. arXiv 2001.11216 bounds its probability and reads
the bound, proportional to η² / γ², as a law. Simulated here are steps under three kinds of noise of the same mean and
variance (docs/theory.md, F2), and the gradients of the scales of trained networks on many batches take the place of
the noise: the bound is kept, and only noise that is made for it follows it.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.stats import binom, binomtest

from bnjax.theorems.sparsifying import (
    Noise,
    cantelli_bound,
    chebyshev_bound,
    distance,
    gaussian_noise,
    pareto_noise,
    two_point_noise,
)
from experiments.command import main
from experiments.progress import progress
from experiments.scale_gradients import ScaleGradientOptions, gradients_of_trained_scales, over_features

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES = tuple(2.0 ** (exponent / 4) for exponent in range(-20, 9))
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
# A slope is that of the tail, and of frequencies that are known.
TAIL, LEAST_HITS = 0.02, 1000
# The probability that any of all cells fails its test by chance.
FAMILY_WISE = 1e-6


@dataclass(frozen=True)
class Config(ScaleGradientOptions):
    """Count how many steps of SGD reach the dead region, and compare with the bounds of the gradient's variance."""

    steps: int = 1_000_000
    """Simulated steps for every kind of noise, rate and scale."""
    pareto_index: float = 2.05
    """Index of the Pareto noise's tail; above 2."""

    def __post_init__(self) -> None:
        """Check that the Pareto noise has a variance."""
        super().__post_init__()
        pareto_noise(self.pareto_index)

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, steps=20_000, epochs=1, batches=50, seeds=1)


def run(config: Config) -> dict[str, Any]:
    """Simulate the steps of every kind of noise, and take the gradients of trained networks."""
    noises = {"two_point": two_point_noise(), "pareto": pareto_noise(config.pareto_index), "gaussian": gaussian_noise()}
    keys = jax.random.split(jax.random.key(config.seed), len(noises))
    table = []
    for (name, noise), key in progress(list(zip(noises.items(), keys, strict=True)), "simulating steps"):
        table += [{"noise": name, **row} for row in _simulated(noise, key, config.steps, len(noises))]
    slopes = {"two_point": 2.0, "pareto": config.pareto_index, "gaussian": None}
    features, data = gradients_of_trained_scales(config)
    return {
        "table": table,
        "slopes": [row for name, slope in slopes.items() for row in _slopes(name, slope, table)],
        "local_slopes": [row for name in noises for row in _local_slopes(name, table)],
        "trained": over_features(features),
        "features": features,
        "data": data,
    }


def _simulated(noise: Noise, key: Array, steps: int, kinds: int) -> list[dict[str, Any]]:
    """Return a row for every rate and scale: how many steps reached the dead region, and what bounds that."""
    rates, scales = (jnp.asarray(grid.ravel()) for grid in np.meshgrid(RATES, SCALES, indexing="ij"))
    hits = _hits(noise, steps, jax.random.split(key, len(rates)), rates, scales)
    away = distance(scales, rates)
    bounds = cantelli_bound(away), chebyshev_bound(away), noise.tail(away)
    level = FAMILY_WISE / (kinds * len(rates))
    rows = []
    for rate, scale, at, count, cantelli, chebyshev, tail in zip(
        *(np.asarray(column).tolist() for column in (rates, scales, away, hits, *bounds)), strict=True
    ):
        interval: Any = binomtest(count, steps).proportion_ci(confidence_level=1 - level, method="exact")
        rows.append(
            {"rate": rate, "scale": scale, "distance": at, "steps": steps, "hits": count, "frequency": count / steps}
            | {"tail": tail, "cantelli": cantelli, "chebyshev": chebyshev}
            | {"interval_low": float(interval.low), "interval_high": float(interval.high)}
            # Exact and one-sided: at least so many hits, were the bound the probability.
            | {"p_above": (p := float(binom.sf(count - 1, steps, cantelli))), "holds": p >= level}
            | {"as_derived": bool(interval.low <= tail <= interval.high)}
        )
    return rows


@partial(jax.jit, static_argnums=(0, 1))
def _hits(noise: Noise, steps: int, keys: Array, rates: Array, scales: Array) -> Array:
    """Return how many of so many steps `γ - η Z` reach 0, for each key, rate and scale."""

    def count(cell: tuple[Array, Array, Array]) -> Array:
        key, rate, scale = cell
        return jnp.sum(scale - rate * noise.sample(key, (steps,), distance(scale, rate)) <= 0)

    return jax.lax.map(count, (keys, rates, scales))


def _slopes(noise: str, expected: float | None, table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the exponents of rate and scale in the frequency's tail, by least squares of the logarithms."""
    rows = [row for row in table if row["noise"] == noise and row["hits"] >= LEAST_HITS and row["frequency"] <= TAIL]
    law = {"rate": expected, "scale": expected and -expected}
    columns = np.log([[row["rate"], row["scale"], np.e] for row in rows])
    if len(rows) < 4 or np.linalg.matrix_rank(columns) < 3:
        nothing = dict.fromkeys(("slope", "standard_error", "looseness_min", "looseness_max"))
        reason = f"needs {LEAST_HITS} hits in 4 cells of the tail, of several rates and scales; more --steps"
        return [
            {"noise": noise, "of": of, **nothing, "expected": slope, "cells": len(rows), "reason": reason}
            for of, slope in law.items()
        ]
    frequencies = np.log([row["frequency"] for row in rows])
    found, *_ = np.linalg.lstsq(columns, frequencies)
    variance = np.sum((columns @ found - frequencies) ** 2) / (len(rows) - columns.shape[1])
    errors = np.sqrt(variance * np.diag(np.linalg.inv(columns.T @ columns)))
    looseness = [row["cantelli"] / row["frequency"] for row in rows]
    return [
        {"noise": noise, "of": of, "slope": float(slope), "standard_error": float(error)}
        | {"looseness_min": min(looseness), "looseness_max": max(looseness)}
        | {"expected": law[of], "cells": len(rows), "reason": "" if expected else "no power law"}
        for of, slope, error in zip(law, found, errors, strict=False)
    ]


def _local_slopes(noise: str, table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the slope between every two neighbouring distances, the cells of a distance taken together."""
    rows = [row for row in table if row["noise"] == noise]
    pooled = []
    for at in sorted({row["distance"] for row in rows}):
        alike = [row for row in rows if row["distance"] == at]
        hits, steps = sum(row["hits"] for row in alike), sum(row["steps"] for row in alike)
        if hits >= LEAST_HITS:
            pooled.append((at, hits / steps))
    return [
        {
            "noise": noise,
            "distance": float(np.sqrt(near * far)),
            "slope": float(np.log(low / high) / np.log(far / near)),
        }
        for (near, high), (far, low) in pairwise(pooled)
    ]


def failures(results: dict[str, Any]) -> list[str]:
    """Return cells above the bound or off the noise's own tail, slopes that are others, trained features above it."""
    table = results["table"]
    cells = [
        f"{row['noise']}, rate {row['rate']:g}, scale {row['scale']:g}: {row['hits']} of {row['steps']} steps, "
        f"probability {row['tail']:.3g}, bound {row['cantelli']:.3g}"
        for row in table
        if not (row["holds"] and row["as_derived"])
    ]
    slopes = [
        f"{row['noise']}: slope {row['slope']:.3g} in {row['of']} instead of {row['expected']:g}"
        for row in results["slopes"]
        if None not in (row["slope"], row["expected"])
        and abs(row["slope"] - row["expected"]) > max(0.1, 5 * row["standard_error"])
    ]
    # Of a finite sample's own mean and variance the bound is a theorem.
    trained = [
        f"seed {row['seed']}, layer {row['layer']}, feature {row['feature']}: {row['frequency']:.3g} of the gradients "
        f"go {row['distance']:g} deviations, bound {row['cantelli']:.3g}"
        for row in results["features"]
        if row["frequency"] > row["cantelli"] * (1 + 1e-9)
    ]
    return cells + slopes + trained


def summary(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the slopes: what follows the bound and what does not."""
    return results["slopes"]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw frequency against rate, against distance beside the bounds, and that of the trained networks' gradients."""
    from bnjax.reporting.figures import lines

    simulated = (
        f"{config['steps']:,} simulated steps a point, mean 0 and variance 1; Pareto index {config['pareto_index']:g}; "
        f"seed {config['seed']}; points without a hit are left out"
    )
    hit = [row for row in results["table"] if row["hits"]]
    compared = [
        {**row, "line": line, "probability": row[key]}
        for line, key in (
            ("simulated", "frequency"),
            ("Cantelli's bound", "cantelli"),
            ("Chebyshev's bound", "chebyshev"),
        )
        for row in {(row["noise"], row["distance"]): row for row in hit}.values()
    ]
    return {
        "rates": lines(
            [{**row, "scale γ": f"{row['scale']:g}"} for row in hit],
            x="rate",
            y="frequency",
            series="scale γ",
            panels="noise",
            log_x=True,
            log_y=True,
            x_label="learning rate η",
            y_label="share of steps that reach the dead region",
            title="The probability of a step into the dead region",
            caption=simulated,
        ),
        "bounds": lines(
            compared,
            x="distance",
            y="probability",
            series="line",
            panels="noise",
            log_x=True,
            log_y=True,
            x_label="γ / η (deviations of G)",
            y_label="probability of a step into the dead region",
            title="Only noise that is made for it follows the bound",
            caption=simulated,
        ),
        "trained": lines(
            [
                {"distance": row["distance"], "line": line, "probability": row[key]}
                for line, key in (
                    ("gradients, mean over features", "frequency"),
                    ("gradients, largest of a feature", "frequency_max"),
                    ("Cantelli's bound", "cantelli"),
                    ("Gaussian", "gaussian"),
                )
                for row in results["trained"]
                if row[key] > 0.1 / config["batches"]
            ],
            x="distance",
            y="probability",
            series="line",
            log_x=True,
            log_y=True,
            x_label="γ / η beyond the mean gradient (deviations of G)",
            y_label="share of batches whose gradient goes so far",
            title="How far the gradients of trained scales go",
            caption=f"{results['data']}; {config['model']} after {config['epochs']} epochs, {config['batches']} "
            f"batches of {config['batch_size']}; {config['seeds']} seeds from {config['seed']}",
        ),
    }


if __name__ == "__main__":
    main(
        run,
        Config,
        name="experiments.sparsifying_probability",
        figures=figures,
        failures=failures,
        summary=summary,
    )
