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

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from bnjax.data import LabelledImages
from bnjax.derivatives import cross_entropy_head, expand
from bnjax.models import SplitHead
from bnjax.normalizers import batch_norm
from bnjax.training import Recipe, TrainState
from experiments.command import main, training_bar
from experiments.networks import MODELS, ImageOptions, sized_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SplitModelName = Literal[
    "lenet_v1", "lenet_v2", "lenet_v3", "lenet_v4", "alexnet_v1", "alexnet_v2", "alexnet_v3", "alexnet_v4"
]
RECIPES = {"authors": optax.sgd(0.01), "adam": optax.adam(2e-3)}
COORDINATES = ("authors", "standardized")
PARTS = ("linear", "none")
# A feature whose deviation over the batch is below this share of the largest is dead.
DEAD = 1e-6


@dataclass(frozen=True)
class Config(ImageOptions):
    """Split the off-diagonal second-order term into what batch normalization blocks and what gets through."""

    least: ClassVar[Mapping[str, int]] = {**ImageOptions.least, "rows": 3}

    models: tuple[SplitModelName, ...] = ("lenet_v1", "lenet_v2", "lenet_v3", "lenet_v4")
    """The networks."""
    recipes: tuple[Literal["authors", "adam"], ...] = ("authors", "adam")
    """The authors' SGD of rate 0.01, and Adam of rate 0.002, which trains all four versions."""
    batch_size: int = 32
    """Rows of a training batch."""
    epochs: int = 15
    """Epochs of training on random batches."""
    rows: int = 32
    """Rows of a measured batch, all of one class."""
    repeats: int = 20
    """Measured batches of every class."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, models=("lenet_v2",), recipes=("adam",), epochs=1, repeats=2)


def run(config: Config) -> dict[str, Any]:
    """Train every network by every recipe and split the term on all its batches at once."""
    table, data = [], ""
    images = config.images(train=True), config.images(train=False)
    with training_bar(len(config.models) * len(config.recipes) * config.epochs) as advance:
        for name, recipe_name in product(config.models, config.recipes):
            train_data, test_data = (sized_for(name, data) for data in images)
            data = f"trained on {train_data.name}; measured on {test_data.name}"
            batches = _batches_of_classes(config, test_data)
            model: Any = MODELS[name](norm=batch_norm(), classes=train_data.classes)
            trained = config.trained(
                Recipe(model, RECIPES[recipe_name]),
                train_data,
                test_data,
                report=partial(advance, f"{name}, {recipe_name}"),
            )
            accuracy = trained.history[-1]["test_accuracy"]
            features = _features(model, trained.state, jnp.asarray(test_data.images))[batches]
            for coordinates in COORDINATES:
                shares, survival, alive = map(np.asarray, _split(model, trained.state, features, coordinates))
                for part, values in zip(PARTS, np.moveaxis(shares, -1, 0), strict=True):
                    kept = values[alive]
                    table.append(
                        {
                            "model": name,
                            "recipe": recipe_name,
                            "coordinates": coordinates,
                            "part": part,
                            "mean": float(np.mean(kept)) if kept.size else None,
                            "std": float(np.std(kept)) if kept.size else None,
                            "features": float(np.mean(np.sum(alive, axis=-1))),
                            "survival": float(np.mean(survival)) if kept.size else None,
                            "survival_std": float(np.std(survival)) if kept.size else None,
                            "accuracy": accuracy,
                            "reason": "" if kept.size else "all features are dead",
                        }
                    )
    return {"table": table, "data": data}


def _batches_of_classes(config: Config, data: LabelledImages) -> np.ndarray:
    """Return the rows of every measured batch, (classes · repeats, rows), each without repetition."""
    generator = np.random.default_rng(config.seed)
    pools = {label: np.flatnonzero(data.labels == label) for label in np.unique(data.labels)}
    smallest = min(pools, key=lambda label: len(pools[label]))
    if len(pools[smallest]) < config.rows:
        raise ValueError(
            f"--rows needs to be at most the {len(pools[smallest])} test images of class {smallest}, got {config.rows}"
        )
    return np.stack(
        [generator.choice(pool, config.rows, replace=False) for pool in pools.values() for _ in range(config.repeats)]
    )


@partial(jax.jit, static_argnums=0)
def _features(model: SplitHead, state: TrainState, images: Array) -> Float[Array, "n features"]:
    """Return what enters the normalizer, in float64 from the trained network in float32."""
    apply: Any = model.apply
    variables = {"params": state.params}
    return jax.lax.map(lambda image: apply(variables, image[None], method="trunk")[0], images, batch_size=64).astype(
        float
    )


@partial(jax.jit, static_argnums=(0, 3))
def _split(
    model: SplitHead, state: TrainState, features: Float[Array, "batches rows d"], coordinates: str
) -> tuple[Float[Array, "batches d 2"], Float[Array, " batches"], Array]:
    """Return, for every batch, the shares of both parts by feature, the term's survival, and which features are alive.

    A share is `‖H_off,d Ŷ_linear‖ / ‖H_off,d Ŷ‖`, or that with Ŷ_none; the squares of the two add up to 1. Survival is
    the norm of all that gets through, relative to the norm of the whole term.
    """
    apply: Any = model.apply
    variables = jax.tree.map(lambda leaf: leaf.astype(float), {"params": state.params})
    affine = variables["params"]["normalization"]
    authors = coordinates == "authors"
    slope, offset = (1.0, 0.0) if authors else (affine["scale"], affine["bias"])
    head = cross_entropy_head(lambda row: apply(variables, slope * row + offset, method="head"))
    # The same for all labels: that of a softmax cross-entropy behind piecewise-linear logits does not depend on them.
    hessian = expand(head, jnp.zeros(features.shape[-1]), jnp.array(0)).hessian
    off_diagonal = hessian - jnp.diag(jnp.diag(hessian))

    def of_batch(x: Array) -> tuple[Array, Array, Array]:
        centered = x - jnp.mean(x, axis=0)
        variance = jnp.mean(centered**2, axis=0)
        alive = jnp.sqrt(variance) > DEAD * jnp.sqrt(jnp.max(variance))
        scale = jnp.where(alive, jnp.sqrt(variance + (1e-5 if authors else 0.0)), jnp.inf)
        standardized = centered / scale
        term = standardized @ off_diagonal
        lengths = jnp.sum(standardized**2, axis=0)
        along = jnp.sum(term * standardized, axis=0) / jnp.where(alive, lengths, 1.0)
        linear = along * standardized
        norms = jnp.linalg.norm(term, axis=0)
        alive &= norms > 0
        parts = jnp.stack([jnp.linalg.norm(part, axis=0) for part in (linear, term - linear)], axis=-1)
        through = jnp.sqrt(jnp.sum(jnp.where(alive, parts[:, 1] ** 2, 0.0)) / jnp.sum(jnp.where(alive, norms**2, 0.0)))
        return parts / jnp.where(alive, norms, 1.0)[:, None], through, alive

    return jax.vmap(of_batch)(features)


def failures(results: dict[str, Any]) -> list[str]:
    """Return shares that are no shares."""
    return [
        f"{row['model']}, {row['recipe']}, {row['coordinates']}, {row['part']}: mean share {row['mean']}"
        for row in results["table"]
        if row["mean"] is not None and not 0 <= row["mean"] <= 1
    ]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the shares of both parts for every network, in both coordinates."""
    from bnjax.reporting.figures import lines

    drawn = {}
    for recipe, coordinates in product(config["recipes"], COORDINATES):
        rows = [
            {**row, "part of Ŷ": row["part"], "network": 1 + config["models"].index(row["model"])}
            for row in results["table"]
            if (row["recipe"], row["coordinates"]) == (recipe, coordinates) and row["mean"] is not None
        ]
        accuracies = ", ".join(f"{row['accuracy']:.2f}" for row in rows if row["part"] == "linear")
        drawn[f"shares_{recipe}_{coordinates}"] = lines(
            rows,
            x="network",
            y="mean",
            spread="std",
            series="part of Ŷ",
            x_label=f"network: {', '.join(config['models'])}",
            y_label="‖H_off,d Ŷ_part‖ / ‖H_off,d Ŷ‖",
            title="The off-diagonal term, split feature by feature",
            caption=f"{results['data']}; {coordinates} coordinates; recipe {recipe}, {config['epochs']} epochs, test "
            f"accuracies {accuracies}; mean and standard deviation over 10 classes, {config['repeats']} batches of "
            f"{config['rows']} rows and all live features; seed {config['seed']}; float64",
        )
    return drawn


if __name__ == "__main__":
    main(run, Config, name="experiments.off_diagonal", figures=figures, failures=failures)
