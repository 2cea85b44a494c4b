"""How does what gets back through a normalizer change from initialization to convergence?

    python -m experiments.blocked_over_training
    python -m experiments.blocked_over_training --model lenet_v2 --epochs 32

A network is trained with each normalizer. Before the first epoch and after epochs 1, 2, 4, 8, … it is cut at its last
normalizer, and the survival of every term of its loss there is that of `bnjax.blocking`, in float64, on one batch of
test images of all classes. The normalizers are as trained, with ε = 1e-5: through batch normalization the shared
gradient term is blocked to rounding, and of the diagonal one is left what ε / (σ² + ε) lets through of each feature.

The expansion point is half a deviation above every feature's mean, since the mean itself sits on the kink of every ReLU
before the first step (docs/theory.md, numerical traps).
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array

import bnjax
from bnjax.models import cut_at_last_normalizer
from bnjax.training import Recipe, TrainState, evaluate
from experiments.common.averages import over_seeds
from experiments.common.claim import BLINDNESS, OWN_QUESTION, Claim, verdict
from experiments.common.command import main
from experiments.common.networks import MODELS, DataOptions, NormalizerName, fixed_keys
from experiments.common.progress import training_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    ChainName = str
else:  # A residual network's last normalizer gives only a part of what its layers behind take.
    ChainName = Literal[tuple(name for name in MODELS if not name.startswith("resnet"))]

EXPANSION_POINT = 0.5
# The parts that a batch of all classes has; the curvature of a cross-entropy of piecewise-linear logits is all shared.
PARTS = {
    "gradient, shared": ("gradient", "shared"),
    "gradient, individual": ("gradient", "individual"),
    "diagonal": ("diagonal", "total"),
    "off_diagonal": ("off_diagonal", "total"),
    "remainder": ("remainder", "total"),
}
KIND = ("normalizer", "epoch", "term", "part")
# What rounding leaves of zero, and of one.
ROUNDING = 1e-10
# What ε may let through of the diagonal term, for it to count as blocked.
NEGLIGIBLE = 0.01


@dataclass(frozen=True)
class Config(DataOptions):
    """Follow the survival of every term of the loss from initialization to convergence."""

    least: ClassVar[Mapping[str, int]] = {**DataOptions.least, "rows": 3}

    model: ChainName = "mlp"
    """The network, one without shortcuts past its last normalizer."""
    normalizers: tuple[NormalizerName, ...] = ("none", "batch_norm", "layer_norm")
    """The normalizers to compare."""
    epochs: int = 64
    """Epochs of training on random batches."""
    learning_rate: float = 0.01
    """Learning rate of SGD with momentum 0.9."""
    rows: int = 128
    """Rows of the measured batch, the first test images."""
    seeds: int = 3
    """Runs of every normalizer, with the seeds seed, seed + 1, …"""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, epochs=2, rows=16, seeds=2)


def run(config: Config) -> dict[str, Any]:
    """Train every normalizer from every seed and measure the network on its way."""
    train_data, test_data = config.load(train=True), config.load(train=False)
    batch = test_data.first(config.rows)
    if len(batch.labels) < config.rows:
        raise ValueError(f"--rows needs to be at most the {len(batch.labels)} test images, got {config.rows}")
    images, labels = config.over_devices((batch.images, batch.labels))
    test_images, test_labels = jnp.asarray(test_data.images), jnp.asarray(test_data.labels)
    epochs = measured_epochs(config.epochs)
    runs: list[dict[str, Any]] = []
    optimizer = optax.sgd(config.learning_rate, 0.9)  # One for all seeds: an equal recipe is compiled once.
    with training_bar(len(config.normalizers) * config.seeds * config.epochs) as advance:
        for name, seed in product(config.normalizers, range(config.seed, config.seed + config.seeds)):
            recipe = Recipe(config.network(name, train_data.classes), optimizer)

            def measure(epoch: int, state: TrainState, recipe: Recipe = recipe, name: str = name) -> None:
                if epoch in epochs:
                    accuracy = float(evaluate(recipe, state, test_images, test_labels).score)
                    report = blocking_of(recipe.model, state, images, labels)
                    runs.extend(
                        {"normalizer": name, "epoch": epoch, **row, "accuracy": accuracy} for row in _rows(report)
                    )

            report = partial(advance, f"{name}, seed {seed}")
            config.trained(recipe, train_data, test_data, seed=seed, report=report, observe=measure)
    table = over_seeds(runs, KIND, ("survival", "gradient_norm_output", "accuracy"))
    return {
        "table": [{**row, "reason": "" if row["survival"] is not None else "no such gradient"} for row in table],
        "data": f"trained on {train_data.name}; measured on the first {config.rows} of {test_data.name}",
    }


def measured_epochs(last: int) -> list[int]:
    """Return 0, 1, 2, 4, 8, … and the last epoch.

    Example:
        >>> measured_epochs(6)
        [0, 1, 2, 4, 6]
    """
    return [0, *(2**k for k in range(last.bit_length()) if 2**k < last), last]


@partial(jax.jit, static_argnums=0)
def blocking_of(model: nn.Module, state: TrainState, images: Array, labels: Array) -> bnjax.BlockingReport:
    """Return what gets back through the last normalizer of a network without shortcuts, in float64.

    Its dropout, if any, drops the same in every row.
    """
    variables, images = jax.tree.map(lambda leaf: leaf.astype(float), (state.variables, images))
    rngs = fixed_keys()
    cut = cut_at_last_normalizer(model, variables, images, rngs=rngs)

    def logits_of(variables: dict[str, Any], images: Array, row: Array) -> Array:
        # Twice the row: normalizers in front of the cut refuse a batch of one.
        return cut_at_last_normalizer(model, variables, images, rngs=rngs).head(jnp.stack([row, row]))[0]

    return bnjax.blocking(
        bnjax.cross_entropy_head(jax.tree_util.Partial(logits_of, variables, images[:2])),
        cut.normalizer,
        cut.features,
        labels,
        params=cut.params,
        stats=cut.stats,
        expansion_point=EXPANSION_POINT,
    )


def _rows(report: bnjax.BlockingReport) -> list[dict[str, Any]]:
    return [
        {key: row[key] for key in ("term", "part", "survival", "gradient_norm_output")}
        for row in report.to_rows()
        if (row["term"], row["part"]) in PARTS.values()
    ]


def failures(results: dict[str, Any]) -> list[str]:
    """Return what contradicts the theory: a shared gradient that gets through, or a term stopped by nothing."""
    complaints = []
    for row in results["table"]:
        if row["survival"] is None:
            continue
        which = f"{row['normalizer']}, epoch {row['epoch']}: the {row['part']} {row['term']} term survives"
        shared = (row["term"], row["part"]) == ("gradient", "shared")
        if row["normalizer"] == "batch_norm" and shared and row["survival"] > ROUNDING:
            complaints.append(f"{which} by {row['survival']:.1e}")
        if row["normalizer"] == "none" and abs(row["survival"] - 1) > ROUNDING:
            complaints.append(f"{which} by {row['survival']:.3g}, not whole")
    return complaints


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of the paper's claim at other times than the end of training."""
    rows = [row for row in results["table"] if row["normalizer"] == "batch_norm" and row["survival"] is not None]
    first = [row["survival"] for row in rows if (row["term"], row["part"]) == ("gradient", "shared")]
    diagonal = [row["survival"] for row in rows if row["term"] == "diagonal"]
    if not first or not diagonal:
        return []
    return [
        Claim(
            paper=BLINDNESS,
            place=OWN_QUESTION,
            claim="Batch normalization blocks the first order and the diagonal of the second at any time of training.",
            ours=f"survival at most {max(first):.1e} (first order, shared by all rows) and {max(diagonal):.1e} "
            "(diagonal of the second, with ε = 1e-5)",
            n=f"{config['seeds']} seeds, at {len(first)} times up to epoch {config['epochs']} ({config['model']}); "
            f"{results['data']}",
            verdict=verdict(
                [survival <= ROUNDING for survival in first] + [survival <= NEGLIGIBLE for survival in diagonal],
                samples=config["seeds"],
            ),
        )
    ]


def summary(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the survival of every part, mean ± standard deviation over the seeds, a column an epoch."""
    lines: dict[tuple, dict[str, Any]] = {}
    for row in results["table"]:
        names = {key: row[key] for key in ("normalizer", "term", "part")}
        line = lines.setdefault(tuple(names.values()), names)
        survival = row["survival"]
        line[f"epoch {row['epoch']}"] = "–" if survival is None else f"{survival:.2g} ± {row['survival_std']:.1g}"
    return list(lines.values())


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the survival of every part against the epoch, a panel for each normalizer."""
    from bnjax.reporting.figures import lines

    names = {part: name for name, part in PARTS.items()}
    rows = [{**row, "part": names[row["term"], row["part"]]} for row in results["table"]]
    last = {row["normalizer"]: row["accuracy"] for row in rows}
    accuracies = ", ".join(f"{name} {accuracy:.2f}" for name, accuracy in last.items())
    draw = partial(
        lines,
        rows,
        x="epoch",
        y="survival",
        spread="survival_std",
        series="part",
        panels="normalizer",
        log_x=True,
        y_label="survival, ‖S Jᵀ G‖ / ‖G‖",
        title="What gets back through the last normalizer, from initialization to convergence",
        caption=f"{results['data']}; {config['model']}, SGD (rate {config['learning_rate']:g}, momentum 0.9), "
        f"batches of {config['batch_size']}; test accuracies at the end: {accuracies}; mean and standard deviation "
        f"over {config['seeds']} seeds from {config['seed']}; float64, ε = 1e-5, by which ε / (σ² + ε) of each "
        f"feature is left of the diagonal term; expansion at ŷ = {EXPANSION_POINT:g}",
    )
    return {"survival": draw(log_y=True, floor=ROUNDING), "survival_linear": draw()}


if __name__ == "__main__":
    main(
        run,
        Config,
        name="experiments.blocked_over_training",
        figures=figures,
        failures=failures,
        claims=claims,
        summary=summary,
    )
