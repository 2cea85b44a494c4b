"""How far do the gradients of the scales of a trained network go, from batch to batch?"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict
from jaxtyping import Array

from bnjax.curvature import batch_loss
from bnjax.theorems.sparsifying import cantelli_bound, gaussian_noise
from bnjax.training import Recipe, TrainState
from experiments.common.networks import DataOptions, ModelName, fixed_keys
from experiments.common.progress import training_bar
from experiments.common.stretches import stretch_of_batches

# Where the gradients are looked at, in their standard deviations.
DISTANCES = tuple(2.0 ** (exponent / 2) for exponent in range(-2, 9))


@dataclass(frozen=True)
class ScaleGradientOptions(DataOptions):
    """Which networks are trained, and on how many batches their gradients are taken."""

    least: ClassVar[Mapping[str, int]] = {**DataOptions.least, "batches": 2}

    model: ModelName = "mlp"
    """The trained network."""
    epochs: int = 5
    """Epochs of training (SGD, rate 0.1)."""
    batches: int = 1000
    """Batches on which a trained network's gradients are taken."""
    seeds: int = 3
    """Trained networks, with the seeds seed, seed + 1, …"""


def gradients_of_trained_scales(config: ScaleGradientOptions) -> tuple[list[dict[str, Any]], str]:
    """Return how often the gradients of trained scales go far, a row for each feature and distance; and the data."""
    train_data, test_data = config.load(train=True), config.load(train=False)
    images, labels = jnp.asarray(train_data.images), jnp.asarray(train_data.labels)
    recipe = Recipe(config.network("batch_norm", train_data.classes), optax.sgd(0.1))
    rows = []
    with training_bar(config.seeds * config.epochs) as advance:
        for seed in range(config.seed, config.seed + config.seeds):
            generator = np.random.default_rng([seed, 1])
            batches = stretch_of_batches(config.batches, train_data.labels, config.batch_size, generator)
            state = config.trained(
                recipe, train_data, test_data, report=partial(advance, f"seed {seed}"), seed=seed
            ).state
            gradients = _scale_gradients(recipe, state, images, labels, config.over_devices(batches.indices, axis=1))
            scales = _scales(state.params)
            for layer, (name, values) in enumerate(jax.device_get(gradients).items(), start=1):
                rows += [
                    {"seed": seed, "layer": layer, "feature": feature, "scale": scale, **row}
                    for feature, (scale, gradient) in enumerate(zip(scales[name].tolist(), values.T, strict=True))
                    for row in _far(scale, gradient)
                ]
    return rows, train_data.name


def _scales(params: Any) -> dict[tuple[str, ...], Array]:
    """Return the scale of every normalizer."""
    flat: dict[tuple[str, ...], Any] = flatten_dict(params)
    return {path: leaf for path, leaf in flat.items() if path[-1] == "scale"}


@partial(jax.jit, static_argnums=0)
def _scale_gradients(
    recipe: Recipe, state: TrainState, images: Array, labels: Array, chosen: Array
) -> dict[tuple[str, ...], Array]:
    """Return the gradient of every scale on every batch of chosen rows, (batches, features), statistics live."""

    def on(rows: Array) -> dict[tuple[str, ...], Array]:
        loss = batch_loss(recipe.model, state.stats, images[rows], labels[rows], loss=recipe.loss, rngs=fixed_keys())
        return _scales(jax.grad(loss)(state.params))

    return jax.lax.map(on, chosen)


def _far(scale: float, gradients: np.ndarray) -> list[dict[str, Any]]:
    """Return how often a feature's gradients go as far as each distance towards the border, and at which rate they do.

    None where the gradient never changes, as that of a collapsed filter, or the scale is 0; no row where no rate makes
    the distance so small.
    """
    towards = np.sign(scale) * gradients.astype(float)
    mean, deviation = np.mean(towards), np.std(towards)
    if deviation == 0 or scale == 0:
        return []
    reach = (towards - mean) / deviation
    return [
        {
            "distance": at,
            "rate": float(abs(scale) / (mean + at * deviation)),
            "frequency": float(np.mean(reach >= at)),
            "cantelli": float(cantelli_bound(jnp.asarray(at))),
        }
        for at in DISTANCES
        if mean + at * deviation > 0
    ]


def over_features(features: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for every distance the mean over the features and the largest, beside the bound and a Gaussian."""
    gaussian = gaussian_noise()
    rows = []
    for at in DISTANCES:
        alike = [row for row in features if row["distance"] == at]
        if alike:
            frequencies = [row["frequency"] for row in alike]
            rows.append(
                {"distance": at, "median_rate": float(np.median([row["rate"] for row in alike]))}
                | {"frequency": float(np.mean(frequencies)), "frequency_max": max(frequencies)}
                | {"cantelli": alike[0]["cantelli"], "gaussian": float(gaussian.tail(jnp.asarray(at)))}
                | {"features": len(alike)}
            )
    return rows
