"""Does batch normalization hurt when every batch holds a single class?

    python -m experiments.classification
    python -m experiments.classification --dataset cifar10 --model vgg11 --batch-size 128 --epochs 100 --augment

The same network is trained without a normalizer, with batch and with layer normalization, on batches of random rows and
on batches of one class each, and tested with its running statistics. What a batch of one class cannot teach through
batch normalization are the first-order term and the diagonal of the second order of its loss (docs/theory.md, T1, T2).
A t-SNE of the test images' features at the input of the last layer shows what was learned below it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from bnjax.data import LabelledImages, random_crop, random_flip
from bnjax.measurements import last_layer_inputs, neighbour_accuracy, t_sne
from bnjax.training import Recipe, Trained
from experiments.common.averages import over_seeds, p_of, paired_difference
from experiments.common.claim import BLINDNESS, SECTION_UNKNOWN, Claim, verdict, with_spread
from experiments.common.command import main
from experiments.common.networks import DataOptions, NormalizerName
from experiments.common.orders import COMPARED_ORDERS, check_orders
from experiments.common.progress import training_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "neighbour_accuracy")
KIND = ("normalizer", "batches")
PERPLEXITY = 30
# The normalizers of which the paper says that batches of one class do them no harm.
UNHARMED = ("none", "layer_norm")


@dataclass(frozen=True)
class Config(DataOptions):
    """Train with batches of random rows and of one class each, with several normalizers."""

    normalizers: tuple[NormalizerName, ...] = ("none", "batch_norm", "layer_norm")
    """The normalizers to compare."""
    batch_size: int = 32
    """Rows of a batch."""
    epochs: int = 20
    """Epochs of training."""
    learning_rate: float = 0.01
    """Learning rate of SGD."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 0.01
    """Weight decay, added to the gradient as the weights times it."""
    seeds: int = 3
    """Runs of every kind, with the seeds seed, seed + 1, …"""
    augment: bool = False
    """Crop the training images at random from 4 pixels of padding and flip them, as the paper does."""
    remainder: Literal["drop", "wrap"] = "drop"
    """What to do with the rows that do not fill a batch."""
    points: int = 1000
    """Test images, at most, whose features are drawn; more than the perplexity."""

    least: ClassVar[Mapping[str, int]] = {**DataOptions.least, "points": PERPLEXITY + 1}

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, epochs=2, seeds=1, points=100)

    def paper_sized(self) -> "Config":
        """Return the published run: VGG-11 on CIFAR-10 for 100 epochs."""
        published = dataclasses.replace(self, dataset="cifar10", model="vgg11", batch_size=128)
        return dataclasses.replace(published, epochs=100, augment=True)


def run(config: Config) -> dict[str, Any]:
    """Train every normalizer on both kinds of batches from every seed, and look at the features of the test images."""
    train_data, test_data = config.load(train=True), config.load(train=False)
    if len(test_data.labels) <= PERPLEXITY:
        raise ValueError(f"--test-images needs to be above the perplexity {PERPLEXITY}, got {len(test_data.labels)}")
    check_orders(train_data, config.batch_size, remainder=config.remainder)
    optimizer = optax.chain(
        optax.add_decayed_weights(config.weight_decay), optax.sgd(config.learning_rate, config.momentum)
    )
    chosen = np.random.default_rng(config.seed).permutation(len(test_data.labels))[: config.points]
    images, labels = test_data.images[chosen], test_data.labels[chosen]
    seeds = range(config.seed, config.seed + config.seeds)
    curves, runs, places = [], [], []
    with training_bar(len(COMPARED_ORDERS) * len(config.normalizers) * config.seeds * config.epochs) as advance:
        for normalizer, kind, seed in product(config.normalizers, COMPARED_ORDERS, seeds):
            model = config.network(normalizer, train_data.classes)
            recipe = Recipe(model, optimizer, augment=cropped_and_flipped if config.augment else None)
            which = {"normalizer": normalizer, "batches": kind, "seed": seed}
            state, history = _trained(config, recipe, train_data, test_data, which, advance)
            curves += [{**which, **row} for row in history]
            features = np.asarray(last_layer_inputs(model, state.variables, jnp.asarray(images)))
            runs.append({**which, **history[-1], "neighbour_accuracy": neighbour_accuracy(features, labels)})
            if seed == config.seed:
                for (x, y), label in zip(t_sne(features, seed=seed, perplexity=PERPLEXITY), labels, strict=True):
                    places.append({**which, "x": round(float(x), 3), "y": round(float(y), 3), "label": int(label)})
    return {
        "table": [{"model": config.model, **row} for row in over_seeds(runs, (*KIND, "dropped"), METRICS)],
        "runs": runs,
        "curves": curves,
        "places": places,
        "neighbour_accuracy_of_pixels": neighbour_accuracy(images.reshape(len(images), -1), labels),
        "data": f"{train_data.name}; tested on {test_data.name}",
    }


def _trained(
    config: Config,
    recipe: Recipe,
    train_data: LabelledImages,
    test_data: LabelledImages,
    which: dict[str, Any],
    advance: Callable[[str, dict[str, Any]], None],
) -> Trained:
    """Train one network, or go on from the checkpoints that a run under the same options left."""
    name = "-".join(map(str, which.values()))
    return config.trained(
        recipe,
        train_data,
        test_data,
        order=partial(COMPARED_ORDERS[which["batches"]], remainder=config.remainder),
        seed=which["seed"],
        directory=config.checkpoints_of(name),
        report=partial(advance, name),
    )


def cropped_and_flipped(key: Array, images: Array) -> Array:
    """Return the images cropped and flipped at random."""
    crop_key, flip_key = jax.random.split(key)
    return random_flip(flip_key, random_crop(crop_key, images))


def failures(results: dict[str, Any]) -> list[str]:
    """Return losses that are not finite; what a network learns is a result, not a check."""
    return [
        f"{row['normalizer']}, {row['batches']}: loss {row['train_loss']}"
        for row in results["table"]
        if not np.isfinite(row["train_loss"])
    ]


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of the paper's claims, by paired tests over seeds of what batches of one class cost."""
    if config["seeds"] < 2 or not {"batch_norm", *UNHARMED} <= set(config["normalizers"]):
        return []
    sayings = {
        "test_accuracy": (
            SECTION_UNKNOWN,
            "Batches of one class cost a network with batch normalization more accuracy than one with layer "
            "normalization or none.",
        ),
        "neighbour_accuracy": (
            "abstract",
            "Where all rows of a batch have a loss alike, batch normalization harms the features that are learned.",
        ),
    }
    rows = {(row["normalizer"], row["batches"]): row for row in results["table"]}
    found = []
    for measure, (place, text) in sayings.items():
        cost = {name: _cost(results, name, measure) for name in ("batch_norm", *UNHARMED)}
        tests = {name: paired_difference(cost[name], cost["batch_norm"], "larger") for name in UNHARMED}
        kept = (
            f"{with_spread(row[measure], row[f'{measure}_std'])} instead of {rows[name, 'random'][measure]:.3f} "
            f"({name}{', ' + p_of(tests[name]) if name in tests else ''})"
            for name in cost
            for row in [rows[name, "single_class"]]
        )
        claim = Claim(
            paper=BLINDNESS,
            place=place,
            claim=text,
            ours=f"{measure.replace('_', ' ')} after batches of one class instead of random ones: {', '.join(kept)}; "
            "p of what they cost, against batch_norm",
            n=f"{config['seeds']} seeds, {config['epochs']} epochs ({config['model']}); {results['data']}",
            verdict=verdict(test["found"] == "shown" for test in tests.values()),
        )
        found.append(claim)
    return found


def _cost(results: dict[str, Any], normalizer: str, measure: str) -> list[float]:
    """Return what batches of one class instead of random ones cost of a measure, seed by seed."""
    random, single_class = (
        [row[measure] for row in results["runs"] if (row["normalizer"], row["batches"]) == (normalizer, kind)]
        for kind in ("random", "single_class")
    )
    return [one - other for one, other in zip(random, single_class, strict=True)]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw loss and accuracy against the epoch for both kinds of batches, and the features of the first seed."""
    from bnjax.reporting.figures import lines

    caption = (
        f"{_setting(results, config)}, batches of {config['batch_size']} rows; mean and standard deviation "
        f"over {config['seeds']} seeds from {config['seed']}"
    )
    labels = {
        "train_loss": "training loss, batch mode (mean, nats)",
        "train_accuracy": "training accuracy, batch mode",
        "test_loss": "test loss, running statistics (mean, nats)",
        "test_accuracy": "test accuracy, running statistics",
    }
    return {
        metric: lines(
            [
                {**row, "normalizer, batches": f"{row['normalizer']}, {row['batches']}"}
                for row in over_seeds(results["curves"], (*KIND, "epoch"), (metric,))
            ],
            x="epoch",
            y=metric,
            spread=f"{metric}_std",
            series="normalizer, batches",
            y_label=label,
            title="Batches of one class, and of random rows",
            caption=caption,
        )
        for metric, label in labels.items()
    } | {"features": _features(results, config)}


def _features(results: dict[str, Any], config: dict[str, Any]) -> "Figure":
    from bnjax.reporting.figures import scatter

    notes = {
        (row["batches"], row["normalizer"]): f"neighbours {row['neighbour_accuracy']:.2f}, "
        f"network {row['test_accuracy']:.2f}"
        for row in results["runs"]
        if row["seed"] == config["seed"]
    }
    points = len(results["places"]) // len(notes)
    return scatter(
        results["places"],
        x="x",
        y="y",
        label="label",
        line="batches",
        column="normalizer",
        x_label="t-SNE, first axis (no unit)",
        y_label="t-SNE, second axis (no unit)",
        title="Test features at the input of the last layer",
        caption=f"t-SNE (perplexity {PERPLEXITY}) of {points} test images, each drawn as the number of its class; "
        f"trained on {_setting(results, config)}, running statistics, {config['epochs']} epochs on batches of "
        f"{config['batch_size']} rows, seed {config['seed']}. Neighbours: accuracy of the majority of the 5 nearest "
        f"other features (by pixels instead of features: {results['neighbour_accuracy_of_pixels']:.2f}); "
        "network: test accuracy",
        notes=notes,
    )


def _setting(results: dict[str, Any], config: dict[str, Any]) -> str:
    return f"{results['data']}; {config['model']}" + (", random crops and flips" if config["augment"] else "")


if __name__ == "__main__":
    shown = (*KIND, "train_loss", "test_accuracy", "test_accuracy_std", "neighbour_accuracy", "seeds")
    main(
        run,
        Config,
        name="experiments.classification",
        figures=figures,
        failures=failures,
        claims=claims,
        columns=shown,
        x64=False,
    )
