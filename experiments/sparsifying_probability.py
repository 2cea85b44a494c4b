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
from experiments.common.claim import COLLAPSE, Claim, Verdict
from experiments.common.command import main
from experiments.common.progress import progress
from experiments.common.scale_gradients import ScaleGradientOptions, gradients_of_trained_scales, over_features
from experiments.common.slopes import local_slopes, slope_is, slopes_of_tail

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES = tuple(2.0 ** (exponent / 4) for exponent in range(-20, 9))
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
# The probability that any of all cells fails its test by chance.
FAMILY_WISE = 1e-6
# The exponents that the paper prints.
PRINTED = {"rate": 2.0, "scale": -2.0}


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
        "slopes": [row for name, slope in slopes.items() for row in slopes_of_tail(name, slope, table)],
        "local_slopes": [row for name in noises for row in local_slopes(name, table)],
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
        if None not in (row["slope"], row["expected"]) and not slope_is(row, row["expected"])
    ]
    trained = [
        f"seed {row['seed']}, layer {row['layer']}, feature {row['feature']}: {row['frequency']:.3g} of the gradients "
        f"go {row['distance']:g} deviations, bound {row['cantelli']:.3g}"
        for row in results["features"]
        if not _below_bound(row)
    ]
    return cells + slopes + trained


def _below_bound(row: dict[str, Any]) -> bool:
    """Return whether a trained feature keeps the bound, which is a theorem of a finite sample's mean and variance."""
    return row["frequency"] <= row["cantelli"] * (1 + 1e-9)


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return whether the law that is printed is that of the probability, or only of a bound of it."""
    cells, features, slopes = results["table"], results["features"], results["slopes"]
    measured = [row for row in slopes if row["slope"] is not None]
    above = sum(not row["holds"] for row in cells) + sum(not _below_bound(row) for row in features)
    as_printed = all(slope_is(row, PRINTED[row["of"]]) for row in measured)
    found: Verdict
    if above:
        found = "not reproduced"
    elif not as_printed:
        found = "misprinted"
    else:
        found = "reproduced" if len(measured) == len(slopes) else "partly"
    told = [f"{row['slope']:.2f} ± {row['standard_error']:.2f} in the {row['of']} ({row['noise']})" for row in measured]
    return [
        Claim(
            paper=COLLAPSE,
            place="abstract",
            claim="The probability that a step switches a filter off is proportional to the square of the learning "
            "rate and inversely proportional to the square of the scale.",
            ours=f"for a bound in place of the probability, {above} of {len(cells)} simulated and {len(features)} "
            f"trained frequencies are above it; slopes of the probability: {', '.join(told) or 'too few hits'}",
            n=f"{config['steps']:,} steps for each of {len(cells)} kinds; {config['batches']} gradients of "
            f"{config['seeds']} networks, {results['data']}",
            verdict=found,
        )
    ]


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
        claims=claims,
        summary=summary,
    )
