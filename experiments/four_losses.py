"""Do terms that are added to the loss at the normalizer's output change the gradient below the normalizer?

    python -m experiments.four_losses
    python -m experiments.four_losses --dataset cifar10 --model vgg11 --data-dir DIR
    python -m experiments.four_losses --normalizers none batch_norm layer_norm rms_norm l1_norm linf_norm

The loss of a batch is the summed cross-entropy and one of four extra losses of the standardized features ŷ before the
affine phase, the same for every row: (1) 0, (2) gᵀŷ, (3) ŷᵀ diag(h) ŷ, (4) ŷᵀ H ŷ with a zero diagonal of H; g, h and H
are Gaussian. Through batch normalization with ε = 0 the first three give the same gradient (arXiv 2205.15146;
docs/theory.md, T1, T2): the table has ‖∇_i − ∇_j‖ / ‖∇_i‖ of the gradients before the normalizer.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.data import random_batches
from bnjax.models import cut_at_last_normalizer
from bnjax.training import Recipe, TrainState
from experiments.common.averages import over_seeds
from experiments.common.claim import BLINDNESS, SECTION_UNKNOWN, Claim, verdict, with_spread
from experiments.common.command import main
from experiments.common.networks import MODELS, DataOptions, NormalizerName, normalizer_at
from experiments.common.progress import progress, training_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXTRA_LOSSES = ("none", "linear", "diagonal", "off_diagonal")
# Differences that the theory says are zero, relative to the gradient.
BLOCKED = 1e-10
PASSES = 1e-3


@dataclass(frozen=True)
class Config(DataOptions):
    """Add terms to the loss at the normalizer's output and compare the gradients before it."""

    least: ClassVar[Mapping[str, int]] = {**DataOptions.least, "batch_size": 3}  # Of two rows all is blocked.
    above_zero: ClassVar[tuple[str, ...]] = (*DataOptions.above_zero, "deviation")

    normalizers: tuple[NormalizerName, ...] = ("batch_norm", "layer_norm")
    """The normalizers, with ε = 0."""
    batch_size: int = 128
    """Rows of a batch."""
    epochs: int = 2
    """Epochs of training (Adam, rate 1e-3) before the measurement."""
    deviation: float = 0.1
    """Standard deviation of the coefficients of the extra losses."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, epochs=1)

    def paper_sized(self) -> "Config":
        """Return the published run: VGG-11 on CIFAR-10."""
        return dataclasses.replace(self, dataset="cifar10", model="vgg11", batch_size=128)


def run(config: Config) -> dict[str, Any]:
    """Train a network with each normalizer and compare its four gradients on all test batches."""
    train_data, test_data = config.load(train=True), config.load(train=False)
    if len(test_data.labels) < config.batch_size:
        raise ValueError(f"--batch-size needs to be at most the {len(test_data.labels)} test images")
    per_batch = []
    with training_bar(len(config.normalizers) * config.epochs) as advance:
        for name in config.normalizers:
            normalizer = normalizer_at(name, epsilon=0.0)
            recipe = Recipe(MODELS[config.model](norm=normalizer, classes=train_data.classes), optax.adam(1e-3))
            state = config.trained(recipe, train_data, test_data, report=partial(advance, name)).state
            batches = random_batches(test_data.labels, config.batch_size, np.random.default_rng(config.seed))
            for number, chosen in enumerate(progress(batches.indices, f"test batches, {name}")):
                images, labels = config.over_devices((test_data.images[chosen].astype(float), test_data.labels[chosen]))
                key = jax.random.fold_in(jax.random.key(config.seed), number)
                ratios = np.asarray(_differences(recipe.model, state, images, labels, key, config.deviation))
                for i, j in product(range(4), repeat=2):
                    row = {"normalizer": name, "first": i + 1, "second": j + 1, "batch_number": number}
                    per_batch.append({**row, "difference": float(ratios[i, j])})
    averages = over_seeds(per_batch, ("normalizer", "first", "second"), ("difference",))
    return {
        "table": [
            {
                **{key: row[key] for key in ("normalizer", "first", "second")},
                "mean": row["difference"],
                "std": row["difference_std"],
                "batches": row["seeds"],
            }
            for row in averages
        ],
        "batches": per_batch,
        "extra_losses": list(EXTRA_LOSSES),
        "data": test_data.name,
    }


@partial(jax.jit, static_argnums=0)
def _differences(
    model: nn.Module, state: TrainState, images: Array, labels: Array, key: Array, deviation: float
) -> Float[Array, "4 4"]:
    """Return ‖∇_i − ∇_j‖ / ‖∇_i‖ for the four losses."""
    variables = jax.tree.map(lambda leaf: leaf.astype(images.dtype), state.variables)
    dropout_key, noise_key, key = jax.random.split(key, 3)
    cut = cut_at_last_normalizer(model, variables, images, rngs={"dropout": dropout_key, "noise": noise_key})
    slope, offset = cut.normalizer.affine(cut.params, cut.features, mode="batch", key=noise_key)
    features = cut.features[0].size

    linear, diagonal = deviation * jax.random.normal(key, (2, features), images.dtype)
    matrix = deviation * jax.random.normal(jax.random.fold_in(key, 0), (features, features), images.dtype)
    matrix = matrix.at[jnp.diag_indices(features)].set(0.0)

    def losses(x: Array) -> tuple[Array, ...]:
        standardized = cut.normalizer.standardize(cut.stats, x, mode="batch", key=None)[0].values
        logits = cut.head(slope * standardized + offset)
        cross_entropy = jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
        rows = standardized.reshape(len(x), -1)
        extra = 0.0, jnp.sum(rows @ linear), jnp.sum(rows**2 @ diagonal), jnp.sum(rows * (rows @ matrix))
        return tuple(cross_entropy + one for one in extra)

    gradients = jnp.stack([jax.grad(lambda x, i=i: losses(x)[i])(cut.features).ravel() for i in range(4)])
    distances = jnp.linalg.norm(gradients[:, None] - gradients, axis=-1)
    return distances / jnp.linalg.norm(gradients, axis=-1)[:, None]


def failures(results: dict[str, Any]) -> list[str]:
    """Return what contradicts the theory of batch normalization."""
    blocked, passing = _through_batch_norm(results)
    return [
        f"losses {row['first']} and {row['second']} differ by {row['mean']:.1e}, not at most {BLOCKED:.0e}"
        for row in blocked
        if not row["mean"] <= BLOCKED
    ] + [
        f"losses {row['first']} and {row['second']} differ by {row['mean']:.1e} only, not at least {PASSES:.0e}"
        for row in passing
        if not row["mean"] >= PASSES
    ]


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of the paper's four losses."""
    blocked, passing = _through_batch_norm(results)
    if not blocked:
        return []
    largest = max(row["mean"] for row in blocked)
    fourth = next(row for row in passing if row["first"] == 1)
    batches = fourth["batches"]
    return [
        Claim(
            paper=BLINDNESS,
            place=SECTION_UNKNOWN,
            claim="A linear or a diagonal quadratic loss, added at the output of batch normalization, leaves the "
            "gradient below as it is; an off-diagonal quadratic one changes it.",
            ours=f"relative change at most {largest:.1e} (linear, diagonal); "
            f"{with_spread(fourth['mean'], fourth['std'])} (off-diagonal)",
            n=f"{batches} batches of {config['batch_size']} rows, 1 network ({config['model']}); {results['data']}",
            verdict=verdict(
                [row["mean"] <= BLOCKED for row in blocked] + [row["mean"] >= PASSES for row in passing],
                samples=batches,
            ),
        )
    ]


def _through_batch_norm(results: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the pairs of losses that agree below batch normalization in theory, and the pairs that do not."""
    rows = [row for row in results["table"] if row["normalizer"] == "batch_norm" and row["first"] != row["second"]]
    fourth = [row for row in rows if 4 in (row["first"], row["second"])]
    return [row for row in rows if row not in fourth], fourth


def summary(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the 4×4 tables, a line for each normalizer and first loss."""
    lines: dict[tuple, dict[str, Any]] = {}
    for row in results["table"]:
        name = f"{row['first']} {results['extra_losses'][row['first'] - 1]}"
        line = lines.setdefault((row["normalizer"], name), {"normalizer": row["normalizer"], "first loss": name})
        line[f"second: {row['second']}"] = f"{row['mean']:.2g} ± {row['std']:.1g}"
    return list(lines.values())


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the differences of every pair of losses, for every normalizer."""
    from bnjax.reporting.figures import dots

    names = results["extra_losses"]
    batches = results["table"][0]["batches"]
    rows = [
        {"losses": f"{names[row['first'] - 1]}, {names[row['second'] - 1]}", **row}
        for row in results["table"]
        if row["first"] < row["second"]
    ]
    return {
        "differences": dots(
            rows,
            name="losses",
            value="mean",
            series="normalizer",
            name_label="the two extra losses",
            value_label="‖∇_i − ∇_j‖ / ‖∇_i‖ before the normalizer",
            floor=1e-16,
            title="What an extra loss at the normalizer's output changes",
            caption=f"{results['data']}; {config['model']}, {config['epochs']} epochs of training; mean over {batches} "
            f"batches of {config['batch_size']} rows; coefficients Gaussian, σ = {config['deviation']}; "
            f"seed {config['seed']}; float64, ε = 0",
        )
    }


if __name__ == "__main__":
    main(
        run, Config, name="experiments.four_losses", figures=figures, failures=failures, claims=claims, summary=summary
    )
