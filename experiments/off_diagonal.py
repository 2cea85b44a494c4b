"""How much of the off-diagonal second-order term gets back through batch normalization?

    python -m experiments.off_diagonal
    python -m experiments.off_diagonal --dataset mnist --batch-size 128 --epochs 35 --rows 128 --repeats 100
    python -m experiments.off_diagonal --models alexnet_v1 alexnet_v2 alexnet_v3 alexnet_v4

LeNet-5 v1–v4 (or AlexNet) are trained with batch normalization of 20 features in their head. On batches of one class
the exact Hessian of the head's cross-entropy at 0 gives the off-diagonal term's gradient H_off Ŷ (Ŷ features × rows).
For each feature d the rows of Ŷ are split into their projections on ŷ_d, Ŷ_linear, and the rest, Ŷ_none: of row d of
H_off Ŷ the part made of Ŷ_linear is blocked, the part made of Ŷ_none gets through (arXiv 2205.15146; docs/theory.md,
T3). The authors take the Hessian at the output y = 0 of the affine phase, beside Ŷ with ε = 1e-5; the standardized
coordinates count the affine phase to the head and have ε = 0.
"""

from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from experiments.common.claim import BLINDNESS, SECTION_UNKNOWN, Claim, verdict, with_spread
from experiments.common.command import main
from experiments.common.live_features import live_features
from experiments.common.split_head_networks import (
    Coordinates,
    SplitHeadOptions,
    TrainedSplitHead,
    features_before_normalizer,
    off_diagonal_hessian,
    single_class_rows,
    split_term,
    trained_split_heads,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPSILONS: dict[Coordinates, float] = {"authors": 1e-5, "standardized": 0.0}
PARTS = ("linear", "none")
# What counts as much of a term: a quarter of its square.
MUCH = 0.25


@dataclass(frozen=True)
class Config(SplitHeadOptions):
    """Split the off-diagonal second-order term into what batch normalization blocks and what gets through."""


def run(config: Config) -> dict[str, Any]:
    """Train every network by every recipe and split the term on all its batches at once.

    `evaluations` has the seconds that everything after the training of a network took, compilation included: the
    features of all test images, the Hessians and the split in both coordinates.
    """
    train_data, test_data = config.images(train=True), config.images(train=False)
    batches = single_class_rows(test_data.labels, rows=config.rows, repeats=config.repeats, seed=config.seed)
    table, evaluations = [], []
    for network in trained_split_heads(config, train_data, test_data):
        begin = perf_counter()
        features = config.over_devices(features_before_normalizer(network)[batches], axis=1)
        for coordinates in EPSILONS:
            table += _rows(network, features, coordinates)
        which = {"model": network.name, "recipe": network.recipe, "batches": len(batches)}
        evaluations.append({**which, "evaluation_s": perf_counter() - begin})
    return {
        "table": table,
        "evaluations": evaluations,
        "data": f"trained on {train_data.name}; measured on {test_data.name}",
    }


def _rows(network: TrainedSplitHead, features: Array, coordinates: Coordinates) -> list[dict[str, Any]]:
    """Return a row of the table for each part of the term."""
    off_diagonal = off_diagonal_hessian(network.model, network.state.params, coordinates)
    shares, survival, alive = map(np.asarray, split(off_diagonal, features, EPSILONS[coordinates]))
    survival, found = survival[alive.any(axis=-1)], bool(alive.any())
    return [
        {
            "model": network.name,
            "recipe": network.recipe,
            "coordinates": coordinates,
            "part": part,
            "mean": float(np.mean(values[alive])) if found else None,
            "std": float(np.std(values[alive])) if found else None,
            "features": float(np.mean(np.sum(alive, axis=-1))),
            "survival": float(np.mean(survival)) if found else None,
            "survival_std": float(np.std(survival)) if found else None,
            "accuracy": network.accuracy,
            "reason": "" if found else "all features are dead",
        }
        for part, values in zip(PARTS, np.moveaxis(shares, -1, 0), strict=True)
    ]


@partial(jax.jit, static_argnums=2)
@partial(jax.vmap, in_axes=(None, 0, None))
def split(
    off_diagonal: Float[Array, "d d"], x: Float[Array, "rows d"], epsilon: float
) -> tuple[Float[Array, "d 2"], Float[Array, ""], Bool[Array, " d"]]:
    """Return, for every batch, the shares of both parts by feature, the term's survival, and which features are alive.

    A share is `‖H_off,d Ŷ_linear‖ / ‖H_off,d Ŷ‖`, or that with Ŷ_none; the squares of the two add up to 1. Survival is
    the norm of all that gets through, relative to the norm of the whole term.
    """
    alive = live_features(jnp.std(x, axis=0))
    scale = jnp.where(alive, jnp.sqrt(jnp.var(x, axis=0) + epsilon), jnp.inf)
    linear, none = split_term(off_diagonal, (x - jnp.mean(x, axis=0)) / scale)
    squares = jnp.sum(jnp.stack([linear, none], axis=-1) ** 2, axis=0)
    alive &= jnp.sum(squares, axis=-1) > 0
    squares = jnp.where(alive[:, None], squares, 0.0)
    whole = jnp.sum(squares, axis=-1)
    survival = jnp.sqrt(jnp.sum(squares[:, 1]) / jnp.sum(whole))
    return jnp.sqrt(squares / jnp.where(alive, whole, 1.0)[:, None]), survival, alive


def failures(results: dict[str, Any]) -> list[str]:
    """Return shares that are no shares."""
    return [
        f"{row['model']}, {row['recipe']}, {row['coordinates']}, {row['part']}: mean share {row['mean']}"
        for row in results["table"]
        if row["mean"] is not None and not 0 <= row["mean"] <= 1
    ]


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of the paper's claims on how much of the term is blocked, and how much gets through."""
    live = [row for row in results["table"] if row["mean"] is not None]
    exact = [row for row in live if (row["coordinates"], row["part"]) == ("standardized", "linear")]
    published = [row for row in live if (row["coordinates"], row["recipe"]) == ("authors", "authors")]
    linear, none = ([row for row in published if row["part"] == part] for part in PARTS)
    batches = f"{config['repeats']} batches of {config['rows']} rows of every class; {results['data']}"
    found = []
    if exact:
        blocked = [1 - row["survival"] ** 2 for row in exact]
        much = Claim(
            paper=BLINDNESS,
            place="abstract",
            claim="Much of the off-diagonal part of the second order is blocked as well.",
            ours=f"of its square {min(blocked):.0%} to {max(blocked):.0%} are blocked, by network",
            n=f"{len(exact)} trained networks, {batches}",
            verdict=verdict((share >= MUCH for share in blocked), samples=len(blocked)),
        )
        found.append(much)
    if published:
        # Not to be told apart: they differ by less than either varies from feature to feature.
        alike = [
            abs(first["mean"] - other["mean"]) < min(first["std"], other["std"])
            for first, other in zip(linear, none, strict=True)
        ]
        pairs = (
            f"{row['model']} {with_spread(row['mean'], row['std'])} and {with_spread(other['mean'], other['std'])}"
            for row, other in zip(linear, none, strict=True)
        )
        size = Claim(
            paper=BLINDNESS,
            place=SECTION_UNKNOWN,
            claim="The part of the off-diagonal term that is blocked, made of Ŷ_linear, is of the size of the part "
            "that gets through, made of Ŷ_none.",
            ours=f"shares of the whole, Ŷ_linear and Ŷ_none: {'; '.join(pairs)}",
            n=f"{len(linear)} networks trained as the authors do, {batches}",
            verdict=verdict(alike, samples=len(alike)),
        )
        found.append(size)
    return found


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the shares of both parts for every network, in both coordinates, a figure for each recipe."""
    from bnjax.reporting.figures import survival_bars

    drawn = {}
    for recipe in config["recipes"]:
        own = [row for row in results["table"] if row["recipe"] == recipe]
        accuracies = {row["model"]: f"{row['model']} {row['accuracy']:.2f}" for row in own}
        drawn[f"shares_{recipe}"] = survival_bars(
            [
                {
                    "term": row["model"],
                    "part of Ŷ": row["part"],
                    "survival": row["mean"],
                    **{key: row[key] for key in ("coordinates", "std", "reason")},
                }
                for row in own
            ],
            by="part of Ŷ",
            panels="coordinates",
            spread="std",
            value_label="‖H_off,d Ŷ_part‖ / ‖H_off,d Ŷ‖",
            title="The off-diagonal term, split feature by feature",
            caption=f"{results['data']}; recipe {recipe}, {config['epochs']} epochs, test accuracies: "
            f"{', '.join(accuracies.values())}; mean and standard deviation over {config['repeats']} batches of "
            f"{config['rows']} rows of every class and all live features; seed {config['seed']}; float64",
        )
    return drawn


if __name__ == "__main__":
    shown = ("model", "recipe", "accuracy", "coordinates", "part", "mean", "std", "features", "survival")
    main(run, Config, name="experiments.off_diagonal", figures=figures, failures=failures, claims=claims, columns=shown)
