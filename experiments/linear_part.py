"""Does the linear part of the off-diagonal second-order term get back through batch normalization?

    python -m experiments.linear_part
    python -m experiments.linear_part --dataset mnist --batch-size 128 --epochs 35 --rows 128 --repeats 100
    python -m experiments.linear_part --normalizers none batch_norm layer_norm rms_norm

Networks, batches and the Hessian H_off of `experiments.off_diagonal`, in standardized coordinates. For each feature d
of a batch of one class the loss L_d,linear = H_off,d · (Ŷ_linearᵀ ŷ_d), with Ŷ_linear *held constant* (the projections
of Ŷ's columns on ŷ_d), is taken back from the normalizer's output to the feature before it. Through batch normalization
with ε = 1e-20 nothing arrives (arXiv 2205.15146; docs/theory.md, T3), beside ‖∂L_d,linear/∂ŷ_d‖ / s_d, which would if
the normalizer only divided by its scale. The same loss of what is left of Ŷ, Ŷ_none, gets through whole. Features that
are almost dead in a batch, of a variance that ε is not negligible beside, are left out and counted.

Is it batch normalization that blocks? Other normalizers take the same loss back, of their own ŷ from the same features,
without an affine phase. The networks are trained with batch normalization all the same.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from bnjax.normalizers import Normalizer
from experiments.common.claim import BLINDNESS, SECTION_UNKNOWN, Claim, verdict
from experiments.common.command import main
from experiments.common.live_features import live_features
from experiments.common.networks import NormalizerName, normalizer_at
from experiments.common.split_head_networks import (
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

EPSILON = 1e-20
# What the theory says is zero, relative to what would arrive through a mere division.
BLOCKED = 1e-12
# The largest share of a feature's variance that EPSILON may be: it lets just this share through (docs/theory.md, (15)).
NEGLIGIBLE = 1e-13
BATCHES_AT_ONCE = 50


@dataclass(frozen=True)
class Config(SplitHeadOptions):
    """Take the linear part of the off-diagonal term back through normalizers."""

    normalizers: tuple[NormalizerName, ...] = ("batch_norm", "layer_norm", "detached_batch_norm")
    """The normalizers that the loss is taken back through."""


class PartNorms(NamedTuple):
    """What arrives of one part of the term, feature by feature.

    Attributes:
        gradient: ‖∂L_d/∂x_d‖, the norm of the gradient before the normalizer.
        reference: ‖(∂L_d/∂ŷ_d) / s‖, what it would be if the normalizer only divided by its scale s; 0 for a feature
            that has no such part or is not measured.
    """

    gradient: Float[Array, "... d"]
    reference: Float[Array, "... d"]

    def ratios(self) -> Float[np.ndarray, " n"]:
        """Return `gradient / reference` of every feature that has a reference, in all batches."""
        gradient, reference = map(np.asarray, self)
        return gradient[reference > 0] / reference[reference > 0]


def run(config: Config) -> dict[str, Any]:
    """Train every network by every recipe and take both parts back through every normalizer."""
    train_data, test_data = config.images(train=True), config.images(train=False)
    batches = single_class_rows(test_data.labels, rows=config.rows, repeats=config.repeats, seed=config.seed)
    table = []
    for network in trained_split_heads(config, train_data, test_data):
        features = config.over_devices(features_before_normalizer(network)[batches], axis=1)
        table += [_row(network, name, features) for name in config.normalizers]
    return {"table": table, "data": f"trained on {train_data.name}; measured on {test_data.name}"}


def _row(network: TrainedSplitHead, normalizer: NormalizerName, features: Array) -> dict[str, Any]:
    """Return the row of the table for one normalizer behind one network's features."""
    off_diagonal = off_diagonal_hessian(network.model, network.state.params, "standardized")
    linear, none = part_norms(normalizer_at(normalizer, epsilon=EPSILON), off_diagonal, features)
    measured = np.asarray(linear.reference) > 0
    left_out = live_features(jnp.std(features, axis=1)) & ~jax.vmap(measured_features)(features)
    found = bool(measured.any())
    norms = {
        "gradient_norm": np.asarray(linear.gradient)[measured],
        "reference_norm": np.asarray(linear.reference)[measured],
    }
    return {
        "model": network.name,
        "recipe": network.recipe,
        "normalizer": normalizer,
        **{name: float(np.mean(values)) if found else None for name, values in norms.items()},
        **{f"{name}_std": float(np.std(values)) if found else None for name, values in norms.items()},
        "ratio": float(np.max(linear.ratios())) if found else None,
        "passing_ratio": float(np.mean(none.ratios())) if none.ratios().size else None,
        "features": float(np.mean(np.sum(measured, axis=-1))),
        "left_out": int(np.sum(left_out)),
        "accuracy": network.accuracy,
        "reason": "" if found and none.ratios().size else "no feature has such a part",
    }


def measured_features(x: Float[Array, "rows d"]) -> Bool[Array, " d"]:
    """Return which live features have a variance that EPSILON is negligible beside."""
    return live_features(jnp.std(x, axis=0)) & (NEGLIGIBLE * jnp.var(x, axis=0) >= EPSILON)


@partial(jax.jit, static_argnums=0)
def part_norms(
    normalizer: Normalizer, off_diagonal: Float[Array, "d d"], features: Float[Array, "batches rows d"]
) -> tuple[PartNorms, PartNorms]:
    """Return what arrives of the parts made of Ŷ_linear and of Ŷ_none, for every batch and feature."""
    of_batch = partial(_part_norms, normalizer, off_diagonal)
    return jax.lax.map(of_batch, features, batch_size=BATCHES_AT_ONCE)


def _part_norms(
    normalizer: Normalizer, off_diagonal: Float[Array, "d d"], x: Float[Array, "rows d"]
) -> tuple[PartNorms, PartNorms]:
    """Return the norms of one batch.

    With Ŷ_linear held constant, L_d,linear is linear in ŷ_d: ∂L_d,linear/∂ŷ_d = Ŷ_linear H_off,dᵀ is column d of what
    `split_term` returns. Each column goes back by itself, since some normalizers mix the features of a row; through
    batch normalization, where x_d enters ŷ_d alone, the others would add nothing.
    """
    alive, measured = live_features(jnp.std(x, axis=0)), measured_features(x)
    _, stats = normalizer.init(x)

    def standardize(x: Array) -> tuple[Array, Array]:
        standardized, _ = normalizer.standardize(stats, x, mode="batch", key=None)
        return standardized.values, standardized.scale

    y, pull_back, scale = jax.vjp(standardize, x, has_aux=True)
    parts = split_term(off_diagonal, jnp.where(alive, y, 0.0))

    def norms(part: Array) -> PartNorms:
        part = jnp.where(measured, part, 0.0)

        def at_feature(d: Array) -> Array:
            alone = jnp.zeros_like(part).at[:, d].set(part[:, d])
            return pull_back(alone)[0][:, d]

        gradients = jax.vmap(at_feature, out_axes=1)(jnp.arange(x.shape[1]))
        return PartNorms(jnp.linalg.norm(gradients, axis=0), jnp.linalg.norm(part / scale, axis=0))

    linear, none = map(norms, parts)
    return linear, none


def failures(results: dict[str, Any]) -> list[str]:
    """Return the linear parts that get through batch normalization."""
    return [
        f"{row['model']}, {row['recipe']}: {row['ratio']:.1e} of a linear part gets through, not at most {BLOCKED:.0e}"
        for row in _through_batch_norm(results)
        if not row["ratio"] <= BLOCKED
    ]


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of the paper's claim on the linear part."""
    rows = _through_batch_norm(results)
    if not rows:
        return []
    return [
        Claim(
            paper=BLINDNESS,
            place=SECTION_UNKNOWN,
            claim="Of the off-diagonal term the part made of Ŷ_linear has no gradient below batch normalization.",
            ours=f"at most {max(row['ratio'] for row in rows):.1e} of what a mere division would let through, of any "
            "feature",
            n=f"{len(rows)} trained networks, {config['repeats']} batches of {config['rows']} rows of every class; "
            f"{results['data']}",
            verdict=verdict(row["ratio"] <= BLOCKED for row in rows),
        )
    ]


def _through_batch_norm(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the networks that have such a part, behind batch normalization."""
    return [row for row in results["table"] if row["normalizer"] == "batch_norm" and row["ratio"] is not None]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw how much of both parts gets through every normalizer, in every network."""
    from bnjax.reporting.figures import dots

    rows = [
        {"line": f"{normalizer}: {row['model']}, {row['recipe']}", "ratio": row[key], "part": part}
        for normalizer in config["normalizers"]
        for row in results["table"]
        for key, part in (("ratio", "Ŷ_linear (largest)"), ("passing_ratio", "Ŷ_none (mean)"))
        if row["normalizer"] == normalizer and row[key] is not None
    ]
    return {
        "ratios": dots(
            rows,
            name="line",
            value="ratio",
            series="part",
            name_label="normalizer: network",
            value_label="‖∂L_d/∂x_d‖ / ‖(∂L_d/∂ŷ_d) / s‖",
            floor=1e-18,
            title="What arrives of the off-diagonal term's two parts",
            caption=f"{results['data']}; {config['epochs']} epochs; over all measured features of "
            f"{config['repeats']} batches of {config['rows']} rows of every class; seed {config['seed']}; float64, "
            f"ε = {EPSILON:.0e}",
        )
    }


if __name__ == "__main__":
    shown = ("model", "recipe", "normalizer", "gradient_norm", "reference_norm", "ratio", "passing_ratio", "accuracy")
    main(run, Config, name="experiments.linear_part", figures=figures, failures=failures, claims=claims, columns=shown)
