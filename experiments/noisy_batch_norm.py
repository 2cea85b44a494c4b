"""Does batch normalization help because it keeps distributions from shifting? Noise makes them shift.

    python -m experiments.noisy_batch_norm
    python -m experiments.noisy_batch_norm --preset paper --data-dir DIR

A network is trained without a normalizer, with batch normalization, and with batch normalization whose outputs get
noise of another mean and deviation at every step (arXiv 1805.11604, section 2.2 and Fig. 2). Beside the curves it
shows, for an early, a middle and a late normalizer, how the outputs of one feature on one fixed batch are distributed
in training mode, and how far the first two moments of all features move from one step to the next.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from bnjax.data import LabelledImages
from bnjax.models import normalizer_names, passages
from bnjax.training import Recipe, TrainState, train_step
from experiments.claims.tested import claim_of_tests, comparisons
from experiments.common.averages import compared, left_out, over_seeds, paired_test
from experiments.common.claim import OPTIMIZATION, Claim
from experiments.common.command import main
from experiments.common.live_features import live_features
from experiments.common.networks import DataOptions, ModelName
from experiments.common.observed import observed_from_every_seed
from experiments.common.stretches import StretchOptions, stretch_of_batches

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMPARED = ("none", "batch_norm", "noisy_batch_norm")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SHIFTS = ("mean_change", "deviation_change")
# Pairs to compare, and what the paper says of the second in comparison with the first.
CLAIMS = (
    ("none", "noisy_batch_norm", "train_loss", "smaller: trains faster"),
    ("batch_norm", "noisy_batch_norm", "train_loss", "about the same"),
    ("batch_norm", "noisy_batch_norm", "mean_change", "larger: shifts more"),
    ("batch_norm", "noisy_batch_norm", "deviation_change", "larger: shifts more"),
    ("none", "noisy_batch_norm", "mean_change", "larger: shifts more"),
)


@dataclass(frozen=True)
class Config(StretchOptions, DataOptions):
    """Train with batch normalization whose output distributions are made to shift."""

    model: ModelName = "vgg_a_narrow"
    """The network."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, model="mlp", batch_size=16, epochs=2, stretch=2, seeds=2)

    def paper_sized(self) -> "Config":
        """Return the published run: VGG-A on CIFAR-10 for 15,000 steps."""
        published = dataclasses.replace(self, dataset="cifar10", model="vgg_a", batch_size=128)
        return dataclasses.replace(published, epochs=150, stretch=100)


def run(config: Config) -> dict[str, Any]:
    """Train every normalizer from every seed and look at the normalizers' outputs on the way."""
    train_data, test_data = config.load(train=True), config.load(train=False)
    optimizer = optax.sgd(config.learning_rate)
    recipes = {name: Recipe(config.network(name, train_data.classes), optimizer) for name in COMPARED}
    curves, moments, quantiles, diverged = [], [], [], []
    runs = observed_from_every_seed(
        config,
        recipes,
        train_data,
        test_data,
        seeds=config.seeds,
        order=partial(stretch_of_batches, config.stretch),
        observe=lambda recipe, _, epoch, state: _outputs(config, recipe, train_data, epoch, state),
        diverged=diverged,
    )
    for which, (trained, outputs) in runs:
        curves += [{**which, "step": row["epoch"] * config.stretch, **row} for row in trained.history]
        for epoch, layers in enumerate(outputs):
            where = {**which, "step": epoch * config.stretch}
            for layer in layers:
                place = {**where, "layer": layer["layer"], "name": layer["name"]}
                moments.append({**place, **layer["changes"]})
                quantiles += [{**place, **row} for row in layer["quantiles"]]
    return {
        "table": over_seeds(curves, ("normalizer", "step"), ("train_loss", "train_accuracy", "test_accuracy")),
        "tests": _tests(curves, moments, config.seeds),
        "changes": over_seeds(moments, ("normalizer", "step", "layer", "name"), ("mean_change", "deviation_change")),
        "quantiles": quantiles,
        "diverged": diverged,
        "data": f"{train_data.name}; tested on {test_data.name}",
    }


def _outputs(
    config: Config, recipe: Recipe, data: LabelledImages, epoch: int, state: TrainState
) -> list[dict[str, Any]]:
    """Return for three normalizers how their outputs on one fixed batch are distributed, and what one step changes."""
    fixed = config.over_devices(data.images[: config.batch_size])
    chosen = np.random.default_rng([config.seed, epoch]).choice(len(data.labels), config.batch_size, replace=False)
    batch = config.over_devices((data.images[chosen], data.labels[chosen]))
    now, then = jax.device_get(_before_and_after_a_step(recipe, state, fixed, *batch))
    names = normalizer_names(recipe.model, state.variables, fixed, rngs=_keys(state))
    shown = {layer: names[layer - 1] for layer in (1, (1 + len(names)) // 2, len(names))}
    return [
        {
            "layer": layer,
            "name": name,
            "changes": _changes(now[name], then[name]),
            "quantiles": [
                {"quantile": quantile, "value": float(np.quantile(now[name][..., 0], quantile))}
                for quantile in QUANTILES
            ],
        }
        for layer, name in shown.items()
    ]


@partial(jax.jit, static_argnums=0)
def _before_and_after_a_step(
    recipe: Recipe, state: TrainState, fixed: Array, images: Array, labels: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return what leaves every normalizer on the fixed batch, before and after a step on another one."""

    def outputs(state: TrainState) -> dict[str, Array]:
        passing = passages(recipe.model, state.variables, fixed, jnp.sum, rngs=_keys(state))
        return {name: passage.output for name, passage in passing.items()}

    after, _ = train_step(recipe, state, images, labels)
    return outputs(state), outputs(after)


def _keys(state: TrainState) -> dict[str, Array]:
    """Return the keys of the state's step, so that noise is another at every step."""
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    return dict(zip(("dropout", "noise"), jax.random.split(key), strict=True))


def _changes(now: np.ndarray, then: np.ndarray) -> dict[str, float]:
    """Return how far mean and deviation of a feature move, in its deviations before the step; the features' mean."""
    axes = tuple(range(now.ndim - 1))
    deviation = np.std(now, axis=axes)
    alive = np.asarray(live_features(deviation))
    moved = np.abs(np.mean(then, axis=axes) - np.mean(now, axis=axes)), np.abs(np.std(then, axis=axes) - deviation)
    changes = (float(np.mean(change[alive] / deviation[alive])) if alive.any() else 0.0 for change in moved)
    return dict(zip(("mean_change", "deviation_change"), changes, strict=True))


def _tests(curves: list[dict[str, Any]], moments: list[dict[str, Any]], seeds: int) -> list[dict[str, Any]]:
    """Compare the normalizers seed by seed, in the mean over the steps (and the three layers)."""
    return [
        paired_test(curves if measure == "train_loss" else moments, name, against, measure, claim, seeds=seeds)
        for against, name, measure, claim in CLAIMS
    ]


def failures(results: dict[str, Any]) -> list[str]:
    """Return features whose quantiles are not in order; what the measurements say is a result, not a check."""
    rows = results["quantiles"]
    return [
        f"{low['normalizer']}, step {low['step']}, layer {low['layer']}: {low['value']:g} is the quantile "
        f"{low['quantile']:g} and {high['value']:g} the quantile {high['quantile']:g}"
        for low, high in pairwise(rows)
        if low["quantile"] < high["quantile"] and low["value"] > high["value"]
    ]


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of a network whose distributions are made to shift."""
    network = "A network with noise behind batch normalization"
    sentences = (
        ("Noise behind batch normalization makes its outputs shift more.", "batch_norm", SHIFTS),
        (f"{network} has outputs that shift more than those of one without normalizers.", "none", SHIFTS),
        (f"{network} trains faster than one without normalizers.", "none", ("train_loss",)),
        (f"{network} trains about as fast as one without the noise.", "batch_norm", ("train_loss",)),
    )
    return [
        claim
        for sentence, against, measures in sentences
        for claim in claim_of_tests(
            OPTIMIZATION,
            "Fig. 2",
            sentence,
            comparisons(results, "noisy_batch_norm", against, *measures),
            results,
            config,
        )
    ]


def summary(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the paired comparisons."""
    return compared(results["tests"])


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the curves, the distributions of a middle normalizer's outputs, and how far they move in a step."""
    from bnjax.reporting.figures import lines

    setting = (
        f"{results['data']}; {config['model']}, SGD (rate {config['learning_rate']:g}), batches of "
        f"{config['batch_size']}"
    )
    caption = (
        f"{setting}; mean and standard deviation over {config['seeds']} seeds from {config['seed']}{left_out(results)}"
    )
    of_normalizers = partial(lines, x="step", series="normalizer", x_label="training step")
    drawn = {
        measure: of_normalizers(
            results["table"],
            y=measure,
            spread=f"{measure}_std",
            y_label=label,
            title="Training with and without noise behind batch normalization",
            caption=caption,
        )
        for measure, label in (
            ("train_loss", "training loss, batch mode (mean, nats)"),
            ("test_accuracy", "test accuracy, running statistics"),
        )
    }
    drawn["changes"] = of_normalizers(
        results["changes"],
        y="mean_change",
        spread="mean_change_std",
        panels="layer",
        log_y=True,
        y_label="change of the mean in one step (deviations)",
        title="How far the outputs of a normalizer move in one step",
        caption=f"{caption}; training mode, one fixed batch; mean over the features; layer: number of the normalizer",
    )
    layers = sorted({row["layer"] for row in results["quantiles"]})
    middle = layers[len(layers) // 2]
    drawn["outputs"] = lines(
        [
            {**row, "quantile": f"{row['quantile']:.0%}"}
            for row in results["quantiles"]
            if (row["layer"], row["seed"]) == (middle, config["seed"])
        ],
        x="step",
        y="value",
        series="quantile",
        panels="normalizer",
        x_label="training step",
        y_label="output of the normalizer",
        title=f"How the outputs of the first feature of normalizer {middle} are distributed",
        caption=f"{setting}; seed {config['seed']}; training mode, one fixed batch; quantiles over rows and positions",
    )
    return drawn


if __name__ == "__main__":
    main(
        run,
        Config,
        name="experiments.noisy_batch_norm",
        figures=figures,
        failures=failures,
        claims=claims,
        summary=summary,
        sooner=True,
    )
