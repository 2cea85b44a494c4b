"""Do the statements on smoothness hold on the gradients of trained networks, as derived and as printed?

    python -m experiments.trained_statements
    python -m experiments.trained_statements --model vgg_a_narrow --rows 16

`experiments.verify_theorems` tries S1–S6 (docs/theory.md, smoothness) on random cases. Here a network with batch
normalization is trained, and at every one of its normalizers, now with ε = 0 and in float64, both sides are measured
for the loss of one batch, summed over its rows, before training and after it. Derived statements are equalities or,
for S3, inequalities; printed ones are counted, feature by feature.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from bnjax.compilation import jit_once
from bnjax.models import cut_at, normalizer_names
from bnjax.normalizers import batch_norm
from bnjax.theorems.landscape import (
    aligned,
    curvature_formula,
    curvature_printed,
    keeps_relative_norms,
    landscape,
    largest_weight_gradient_printed,
    squared_gradient_formula,
    squared_gradient_printed,
    squares,
)
from bnjax.theorems.standardization import columns
from bnjax.training import Recipe, TrainState
from experiments.claims.printed_statements import claims
from experiments.claims.theorems import THEOREMS
from experiments.common.command import main
from experiments.common.networks import MODELS, DataOptions, ModelName, fixed_keys
from experiments.common.progress import training_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What is checked, in this order. The equality of S4 is that of S1 times λ²; S5 is about weights alone.
FORMS = (
    ("S1", "derived"),
    ("S1", "printed"),
    ("S2", "derived"),
    ("S3", "derived"),
    ("S3", "printed"),
    ("S4", "printed"),
    ("S6", "derived"),
)
# Where arXiv 1805.11604 states them.
PLACES = {theorem.derived[0]: theorem.place for theorem in THEOREMS}
EQUALITIES = {("S1", "derived"), ("S2", "derived"), ("S6", "derived")}
# The sides of an equality may differ by as much, relative to the numbers that they are sums of.
TOLERANCE = 1e-9
NOTES = (
    "S1 to S6 are the statements of docs/theory.md, which the paper states at where_printed; derived is what is proved "
    "there.",
    "applies: at how many features the hypothesis of a statement holds, which of S3 is γ⟨g,ŷ⟩ ≥ 0 as derived and, as "
    "printed, that H preserves the relative norms of g and ĝ (ĝᵀHĝ ≤ gᵀHg); only these are compared.",
    "missed_by_at_most: the largest difference of both sides of an equality, or excess of the left side of an "
    "inequality over the right one, relative to the size of the numbers that both are sums of; violated_share: at "
    f"which share of the features that are compared it is more than {TOLERANCE:g}.",
)


@dataclass(frozen=True)
class Config(DataOptions):
    """Compare both sides of S1–S6 at every normalizer of a network, before training and after it."""

    least: ClassVar[Mapping[str, int]] = {**DataOptions.least, "rows": 3}

    model: ModelName = "mlp"
    """The network."""
    epochs: int = 5
    """Epochs of training (SGD, rate 0.1)."""
    rows: int = 32
    """Rows of the measured batch."""
    seeds: int = 3
    """Networks, with the seeds seed, seed + 1, …"""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, epochs=1, rows=8, seeds=1)


class Side(NamedTuple):
    """A statement at one normalizer, feature by feature.

    Attributes:
        left: what is measured behind and before the normalizer.
        right: what the statement says of it.
        size: of the numbers that both are sums of.
        applies: where the hypothesis of the statement holds; elsewhere nothing is compared.
    """

    left: Float[Array, " d"]
    right: Float[Array, " d"]
    size: Float[Array, " d"]
    applies: Bool[Array, " d"]


def run(config: Config) -> dict[str, Any]:
    """Train the networks and measure every normalizer."""
    train_data, test_data = config.load(train=True), config.load(train=False)
    if config.rows > len(test_data.labels):
        raise ValueError(f"--rows needs to be at most the {len(test_data.labels)} test images, got {config.rows}")
    recipe = Recipe(config.network("batch_norm", train_data.classes), optax.sgd(0.1))
    exact = MODELS[config.model](norm=batch_norm(epsilon=0.0), classes=train_data.classes)
    images, labels = test_data.images[: config.rows].astype(float), test_data.labels[: config.rows]
    rows: list[dict[str, Any]] = []

    def measured(epoch: int, state: TrainState, seed: int) -> None:
        if epoch in (0, config.epochs):
            found = _measured(exact, state, *config.over_devices((images, labels)))
            _check_variances(found, config, epoch)
            rows.extend({"epoch": epoch, "seed": seed, **row} for row in found)

    with training_bar(config.seeds * config.epochs) as advance:
        for seed in range(config.seed, config.seed + config.seeds):
            config.trained(
                recipe,
                train_data,
                test_data,
                report=partial(advance, f"seed {seed}"),
                seed=seed,
                observe=partial(measured, seed=seed),
            )
    return {
        "table": _table(rows),
        "features": rows,
        "notes": NOTES,
        "data": f"trained on {train_data.name}; measured on {config.rows} rows of {test_data.name}",
    }


def _check_variances(rows: list[dict[str, Any]], config: Config, epoch: int) -> None:
    """Raise ValueError if a feature had no variance, since with ε = 0 nothing behind it is a number."""
    for row in rows:
        if not np.isfinite([row["left"], row["right"], row["size"]]).all() or row["size"] == 0:
            raise ValueError(
                f"the statements need features with variance and gradients, but at epoch {epoch} feature "
                f"{row['feature']} of normalizer {row['layer']} of {config.model} has none; choose a model whose "
                "normalizers stand before its ReLUs, or more --rows"
            )


def _measured(model: nn.Module, state: TrainState, images: Array, labels: Array) -> list[dict[str, Any]]:
    """Return a row for every statement and feature of every normalizer."""
    variables = jax.tree.map(lambda leaf: leaf.astype(float), state.variables)
    rows = []
    for layer, name in enumerate(normalizer_names(model, variables, images, rngs=fixed_keys()), start=1):
        for (statement, form), side in zip(
            FORMS, jax.device_get(_sides(model, variables, images, labels, name)), strict=True
        ):
            rows += [
                {"layer": layer, "statement": statement, "form": form, "feature": feature}
                | {"left": float(left), "right": float(right), "size": float(size), "applies": bool(applies)}
                for feature, (left, right, size, applies) in enumerate(zip(*side, strict=True))
            ]
    return rows


@partial(jit_once, static_argnums=(0, 4))
def _sides(model: nn.Module, variables: dict[str, Any], images: Array, labels: Array, name: str) -> list[Side]:
    """Return both sides of all statements at one normalizer, in the order of `FORMS`."""
    cut = cut_at(model, variables, images, name, rngs=fixed_keys())
    gamma, beta = cut.params["scale"], cut.params["bias"]
    x = columns(cut.features)

    def loss(y: Array) -> Array:
        logits = cut.head(y.reshape(cut.features.shape))
        return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    def apply(x: Array, scale: Array = gamma, bias: Array = beta) -> Array:
        return cut.normalizer.apply({"scale": scale, "bias": bias}, cut.stats, x)[0]

    at = landscape(loss, apply, x, gamma, beta)
    squared, gradient_size = squares(at.normalized_gradient), squares(at.gradient)
    own = jnp.abs(at.alignment) * squared / (len(x) * jnp.abs(gamma))
    curvature_size = jnp.abs(at.curvature_of_normalized) + jnp.abs(at.curvature) + own
    kept = apply(x, at.formula.scale, at.formula.mean)
    always = jnp.ones_like(gamma, dtype=bool)
    return [
        Side(squared, squared_gradient_formula(at), gradient_size, always),
        Side(squared, squared_gradient_printed(at), gradient_size, always),
        Side(at.normalized_curvature, curvature_formula(at), curvature_size, always),
        Side(at.normalized_curvature, at.curvature_of_normalized, curvature_size, aligned(at)),
        Side(at.normalized_curvature, curvature_printed(at), curvature_size, keeps_relative_norms(at)),
        Side(squared, largest_weight_gradient_printed(at), gradient_size, always),
        Side(jnp.max(jnp.abs(kept - x), axis=0), jnp.zeros_like(gamma), jnp.max(jnp.abs(x), axis=0), always),
    ]


def _table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for every statement before and after training: how far it is missed, and by how many features."""
    table = []
    epochs = dict.fromkeys(row["epoch"] for row in rows)
    for epoch, (statement, form) in product(epochs, FORMS):
        own = [row for row in rows if (row["epoch"], row["statement"], row["form"]) == (epoch, statement, form)]
        left, right, size, applies = (np.asarray([row[side] for row in own]) for side in Side._fields)
        difference = (np.abs if (statement, form) in EQUALITIES else np.asarray)(left - right) / size
        missed = np.where(applies, difference, 0.0)
        violated = ~(missed <= TOLERANCE)
        asserted = form == "derived" and applies.any()
        reason = "as printed: counted, not asserted" if form == "printed" else "its hypothesis holds nowhere"
        table.append(
            {
                "epoch": epoch,
                "statement": statement,
                "where_printed": PLACES[statement],
                "form": form,
                "features": len(own),
                "applies": int(np.sum(applies)),
                "missed_by_at_most": float(np.max(missed)),
                "violated_share": float(np.sum(violated) / max(np.sum(applies), 1)),
                "holds": not violated.any() if asserted else None,
                "reason": "" if asserted else reason,
            }
        )
    return table


def failures(results: dict[str, Any]) -> list[str]:
    """Return the derived statements that do not hold."""
    return [
        f"{row['statement']}, epoch {row['epoch']}: missed by {row['missed_by_at_most']:.1e} "
        f"({row['violated_share']:.0%})"
        for row in results["table"]
        if row["holds"] is False
    ]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw at how many features each printed statement is violated, before training and after it."""
    from bnjax.reporting.figures import dots

    return {
        "violations": dots(
            [
                {
                    "statement": f"{row['statement']} ({row['where_printed']})",
                    "share": row["violated_share"],
                    "when": f"epoch {row['epoch']}",
                }
                for row in results["table"]
                if row["form"] == "printed" and row["applies"]
            ],
            name="statement",
            value="share",
            series="when",
            name_label="statement",
            value_label="share of the features where it applies that violate it",
            title="Statements as printed in arXiv 1805.11604, in trained networks",
            caption=f"{results['data']}; {config['model']}, {config['seeds']} seeds from {config['seed']}; every "
            "feature of every batch normalization; float64, ε = 0",
        )
    }


if __name__ == "__main__":
    main(run, Config, name="experiments.trained_statements", figures=figures, failures=failures, claims=claims)
