"""How much of the blocked part of the gradient gets back in practice, layer by layer?

    python -m experiments.blocked_by_layer
    python -m experiments.blocked_by_layer --dataset cifar10 --data-dir DIR

That batch normalization blocks is exact for ε = 0 and exact arithmetic (docs/theory.md, T1, T2). A network with batch
normalization everywhere is trained for a moment. Then at each of its normalizers the gradient G of a batch's mean loss
with respect to the standardized features ŷ is split, feature by feature over rows and positions, into its mean, its
part along ŷ and the rest, and each part is carried back through the standardization: with the usual ε = 1e-5 in
float32 and in float64, and with ε = 0 in float64. The network that G comes from has ε = 1e-5.

Survival is ‖Jᵀ part‖ / ‖part / s‖ over all features, with s = √(σ² + ε) what a feature is divided by. In theory it is 0
for the mean, ε / (σ² + ε) in each feature for the part along ŷ, and 1 for the rest. Dead features, which do not vary
over the batch, are left out at ε = 0. The blocked share of the gradient, ‖mean + part along ŷ‖² / ‖G‖², is measured on
batches of random rows and of one class; a gradient without a direction of its own would have 2 / m, with m the entries
of a feature: the blocked directions are two of m.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from bnjax.measurements import gradient_parts
from bnjax.models import normalizer_names, passages
from bnjax.normalizers import Normalizer, batch_norm
from bnjax.normalizers.batch import batch_axes
from bnjax.normalizers.moments import moments
from bnjax.training import Recipe, TrainState
from experiments.averages import over_seeds
from experiments.command import main
from experiments.networks import ORDERS, DataOptions, ModelName, check_orders
from experiments.progress import training_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPSILON = 1e-5
# What is added to the variance in the layer that is measured, and in which precision.
PRECISIONS = {
    "ε = 1e-5, float32": (EPSILON, "float32"),
    "ε = 1e-5, float64": (EPSILON, "float64"),
    "ε = 0, float64": (0.0, "float64"),
}
PARTS = ("mean", "yhat", "rest")
# A feature whose deviation over the batch is below this share of the layer's largest is dead.
DEAD = 1e-6
# What rounding leaves of zero in float64.
ROUNDING = 1e-10
KIND = ("batch", "layer", "name", "features", "entries", "epsilon", "dtype", "part")
METRICS = ("survival", "predicted", "share", "blocked_share", "variance_min", "variance_median", "dead")


@dataclass(frozen=True)
class Config(DataOptions):
    """Carry the blocked parts of the gradient back through every batch normalization of a network."""

    least: ClassVar[Mapping[str, int]] = {**DataOptions.least, "rows": 3}  # Two of them have nothing but blocked parts.

    model: ModelName = "vgg_a_narrow"
    """The network."""
    batch_size: int = 128
    """Rows of a training batch."""
    rows: int = 32
    """Rows of a measured batch."""
    epochs: int = 3
    """Epochs of training before the measurement."""
    learning_rate: float = 0.01
    """Learning rate of SGD with momentum 0.9."""
    seeds: int = 3
    """Runs, with the seeds seed, seed + 1, …"""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, model="mlp", epochs=1, seeds=1)


class CarriedBack(NamedTuple):
    """The three `PARTS` of a gradient at one normalizer, in their order; all norms are those of single features.

    Attributes:
        norms: ‖part‖.
        sent: ‖part / s‖, with s what a feature is divided by.
        arriving: ‖Jᵀ part‖.
        variance: σ².
    """

    norms: Float[Array, "3 features"]
    sent: Float[Array, "3 features"]
    arriving: Float[Array, "3 features"]
    variance: Float[Array, " features"]


def run(config: Config) -> dict[str, Any]:
    """Train a network from every seed and measure each of its normalizers in every precision."""
    train_data, test_data = config.load(train=True), config.load(train=False)
    check_orders(test_data, config.rows)
    recipe = Recipe(config.network("batch_norm", train_data.classes), optax.sgd(config.learning_rate, 0.9))
    runs, accuracies = [], []
    with training_bar(config.seeds * config.epochs) as advance:
        for seed in range(config.seed, config.seed + config.seeds):
            report = partial(advance, f"seed {seed}")
            trained = config.trained(recipe, train_data, test_data, report=report, seed=seed)
            for kind, order in ORDERS.items():
                chosen = order(test_data.labels, config.rows, np.random.default_rng(seed)).indices[0]
                batch = config.over_devices((test_data.images[chosen], test_data.labels[chosen]))
                measured = _measured_layers(recipe.model, trained.state, *batch)
                runs += [{"seed": seed, "batch": kind, **row} for row in measured]
            accuracies.append(trained.history[-1]["test_accuracy"])
    return {
        "table": [{**row, "reason": _reason(row)} for row in over_seeds(runs, KIND, METRICS)],
        "runs": runs,
        "data": f"trained on {train_data.name}; measured on {test_data.name}",
        "accuracy": float(np.mean(accuracies)),
    }


def _measured_layers(model: nn.Module, state: TrainState, images: Array, labels: Array) -> list[dict[str, Any]]:
    """Return a row for every normalizer, precision and part, on one batch."""
    variables = {"params": state.params, "batch_stats": state.stats}
    rngs = {"dropout": jax.random.key(0), "noise": jax.random.key(1)}
    names = normalizer_names(model, variables, images, rngs=rngs)
    table = []
    for epsilon, dtype in PRECISIONS.values():
        cast = partial(jax.tree.map, lambda leaf, dtype=dtype: leaf.astype(dtype))
        passing = _passages(model, cast(variables), cast(images), labels, rngs)
        for layer, name in enumerate(names, start=1):
            features, gradient = passing[name]
            measured = jax.device_get(carried_back(batch_norm(epsilon=epsilon), features, gradient))
            place = {"layer": layer, "name": name, "entries": features.size // features.shape[-1]}
            table += [{**place, "epsilon": epsilon, "dtype": dtype, **row} for row in part_rows(measured, epsilon)]
    return table


@partial(jax.jit, static_argnums=0)
def _passages(
    model: nn.Module, variables: dict[str, Any], images: Array, labels: Array, rngs: dict[str, Array]
) -> dict[str, tuple[Array, Array]]:
    """Return the features before every normalizer, and the mean loss's gradient at its standardized output."""

    def loss(logits: Array) -> Array:
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    params: dict[str, Any] = flatten_dict(variables["params"], sep="/")
    return {
        name: (passage.features, passage.gradient * params[f"{name}/scale"])
        for name, passage in passages(model, variables, images, loss, rngs=rngs).items()
    }


@partial(jax.jit, static_argnums=0)
def carried_back(
    normalizer: Normalizer, features: Float[Array, "n ..."], gradient: Float[Array, "n ..."]
) -> CarriedBack:
    """Split the gradient at a normalizer's standardized output and carry each part back through the standardization."""
    axes = batch_axes(features, normalizer.feature_axis)
    _, stats = normalizer.init(features)

    def standardize(x: Array) -> tuple[Array, Array]:
        return normalizer.standardize(stats, x, mode="batch", key=None)[0]

    standardized, pull_back, scale = jax.vjp(standardize, features, has_aux=True)
    parts = jnp.stack(gradient_parts(gradient, standardized, axes))
    arriving = jax.vmap(lambda part: pull_back(part)[0])(parts)

    def norms(parts: Array) -> Array:
        return jnp.sqrt(jnp.sum(parts**2, tuple(1 + axis for axis in axes)))

    return CarriedBack(norms(parts), norms(parts / scale), norms(arriving), moments(features, axes).variance.ravel())


def part_rows(measured: CarriedBack, epsilon: float) -> list[dict[str, Any]]:
    """Return a row for every part, over all features of a batch normalization but the dead ones at `epsilon` = 0.

    A part of which there is nothing has no survival.
    """
    variance = np.asarray(measured.variance, float)
    dead = variance <= DEAD**2 * np.max(variance)
    kept = ~dead | (epsilon > 0)
    norms, sent, arriving = (np.asarray(array, float)[:, kept] for array in measured[:3])
    leak = epsilon / (variance[kept] + epsilon)
    factors = np.stack([np.zeros_like(leak), leak, np.ones_like(leak)])
    totals, predicted = np.linalg.norm(sent, axis=1), np.linalg.norm(factors * sent, axis=1)
    squares = np.sum(norms**2, axis=1)
    share = squares / (np.sum(squares) or 1.0)
    return [
        {
            "part": part,
            "features": len(variance),
            "survival": float(np.linalg.norm(arriving[k]) / totals[k]) if totals[k] else None,
            "predicted": float(predicted[k] / totals[k]) if totals[k] else None,
            "share": float(share[k]),
            "blocked_share": float(share[0] + share[1]),
            "variance_min": float(np.min(variance)),
            "variance_median": float(np.median(variance)),
            "dead": int(np.sum(dead)),
        }
        for k, part in enumerate(PARTS)
    ]


def _reason(row: dict[str, Any]) -> str:
    if row["survival"] is None:
        return "no such part of the gradient"
    return "dead features are left out" if row["dead"] and not row["epsilon"] else ""


def failures(results: dict[str, Any]) -> list[str]:
    """Return what contradicts the theory in float64."""
    complaints = []
    for row in results["table"]:
        if row["dtype"] != "float64" or row["survival"] is None:
            continue
        if abs(row["survival"] - row["predicted"]) > ROUNDING:
            where = f"{row['name']}, {row['batch']} rows, ε = {row['epsilon']:g}"
            complaints.append(
                f"{where}: of the part '{row['part']}' survives {row['survival']:.3g}, not {row['predicted']:.3g}"
            )
    return complaints


def summary(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a line for every layer: its variances, the blocked share, and what survives of the part along ŷ."""
    of_layer: dict[int, dict[tuple, dict[str, Any]]] = {}
    for row in results["table"]:
        of_layer.setdefault(row["layer"], {})[row["part"], row["batch"], row["epsilon"], row["dtype"]] = row
    lines = []
    for layer, rows in of_layer.items():
        practice = rows["yhat", "random", EPSILON, "float32"]
        lines.append(
            {
                "layer": layer,
                "dead": practice["dead"],
                "min σ²": practice["variance_min"],
                "median σ²": practice["variance_median"],
                "theory": practice["predicted"],
                **{name: rows["yhat", "random", *precision]["survival"] for name, precision in PRECISIONS.items()},
                **{f"blocked {kind}": rows["yhat", kind, EPSILON, "float32"]["blocked_share"] for kind in ORDERS},
                "2 / m": 2 / practice["entries"],
            }
        )
    return lines


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw what survives of the blocked parts, and their share of the gradient, layer by layer."""
    from bnjax.reporting.figures import lines

    titles = {"mean": "its mean", "yhat": "its part along ŷ"}
    precisions = {value: name for name, value in PRECISIONS.items()}
    rows = [
        {**row, "precision": precisions[row["epsilon"], row["dtype"]], "part of G": titles[row["part"]]}
        for row in results["table"]
        if row["part"] in titles and row["survival"] is not None
    ]
    on_random_rows = [row for row in rows if row["batch"] == "random"]
    predicted = [
        {**row, "survival": row["predicted"], "survival_std": row["predicted_std"], "precision": "theory, ε = 1e-5"}
        for row in on_random_rows
        if row["part"] == "yhat" and (row["epsilon"], row["dtype"]) == (EPSILON, "float64")
    ]
    practice = [row for row in rows if (row["epsilon"], row["dtype"]) == (EPSILON, "float32")]
    chance = [
        {**row, "share": 1 / row["entries"], "share_std": None, "part of G": "either, by chance: 1 / m"}
        for row in practice
        if row["part"] == "yhat"
    ]
    names = list(dict.fromkeys(row["name"] for row in rows))
    few = names if len(names) <= 4 else [names[0], "…", names[-1]]
    place = "normalizer, from the input on"
    caption = (
        f"{results['data']}; {config['model']}, {config['epochs']} epochs (SGD, rate {config['learning_rate']:g}, "
        f"momentum 0.9, batches of {config['batch_size']}), test accuracy {results['accuracy']:.2f}; mean and standard "
        f"deviation over {config['seeds']} seeds from {config['seed']}, one batch of {config['rows']} rows each; "
        f"normalizers 1–{len(names)}: {', '.join(few)}"
    )
    return {
        "survival": lines(
            [*predicted, *on_random_rows],
            x="layer",
            y="survival",
            spread="survival_std",
            series="precision",
            panels="part of G",
            log_y=True,
            floor=1e-18,
            x_label=place,
            y_label="survival, ‖Jᵀ part‖ / ‖part / s‖",
            title="What is left of the blocked parts in practice",
            caption=f"{caption}; random rows",
        ),
        "blocked_share": lines(
            [*practice, *chance],
            x="layer",
            y="share",
            spread="share_std",
            series="part of G",
            panels="batch",
            log_y=True,
            x_label=place,
            y_label="‖part‖² / ‖G‖²",
            title="How much of the gradient at each normalizer's output is blocked",
            caption=f"{caption}; float32, ε = 1e-5",
        ),
    }


if __name__ == "__main__":
    main(run, Config, name="experiments.blocked_by_layer", figures=figures, failures=failures, summary=summary)
