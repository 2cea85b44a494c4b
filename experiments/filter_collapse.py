"""When does a network lose filters? Collapse along training against learning rate, optimizer and what comes before.

    python -m experiments.filter_collapse
    python -m experiments.filter_collapse --model resnet18_narrow
    python -m experiments.filter_collapse --preset paper --data-dir DIR

A filter, normalizer → ReLU, is collapsed if it is negative for all training images (running statistics): the ReLU
passes nothing of it, and its scale and bias get no gradient. Networks are trained on half of the classes with weight
decay on every parameter, from scratch, or from a network that was trained on the other half (fine-tuned), with batch
normalization and with post-shifted batch normalization, from the same seeds on the same batches (arXiv 2001.11216).
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array

from bnjax.data import LabelledImages
from bnjax.training import LossNotFiniteError, Recipe, TrainState
from experiments.claims.filter_collapse import claims
from experiments.common.averages import over_seeds, paired_test
from experiments.common.collapsed_filters import collapsed_by_layer, collapsed_share, filters, histograms
from experiments.common.command import main
from experiments.common.filter_collapse_figures import figures
from experiments.common.networks import (
    DataOptions,
    ModelName,
    NormalizerName,
    OptimizerName,
    optimizer_of_any_rate,
    start_at_rate,
)
from experiments.common.observed import PlannedRun, observed_runs
from experiments.common.progress import training_bar
from experiments.common.stretches import stretch_of_batches

Start = Literal["scratch", "fine_tuned"]
Images = tuple[LabelledImages, LabelledImages]  # for training, for testing
KIND = ("optimizer", "learning_rate", "start", "normalizer")
METRICS = ("collapsed", "test_accuracy", "train_loss")
# The optimizers that are compared, and the share of a learning rate that each takes.
COMPARED = {"sgd": 1.0, "momentum": 1.0, "adam": 0.1}


@dataclass(frozen=True)
class Config(DataOptions):
    """Count collapsed filters while networks are trained with several optimizers and learning rates."""

    model: ModelName = "vgg_a_narrow"
    """The network."""
    normalizers: tuple[NormalizerName, ...] = ("batch_norm", "post_shifted_batch_norm")
    """The normalizers to compare; the first is what the others are compared with."""
    optimizers: tuple[OptimizerName, ...] = tuple(COMPARED)
    """SGD, SGD with momentum 0.9, and Adam."""
    learning_rates: tuple[float, ...] = (0.1, 0.3, 1.0)
    """Learning rates; Adam takes a tenth of them."""
    starts: tuple[Start, ...] = ("scratch", "fine_tuned")
    """Whether a network begins with random weights or with those that it learned on the other classes."""
    weight_decay: float = 5e-4
    """Weight decay of every parameter, added to its gradient, on scales and biases too."""
    batch_size: int = 32
    """Rows of a batch."""
    epochs: int = 4
    """Stretches of training, and of training on the other classes before; filters are counted after each."""
    stretch: int = 30
    """Steps of a stretch."""
    pretraining_rate: float = 0.05
    """Learning rate, with momentum 0.9, of the training on the other classes."""
    seeds: int = 3
    """Runs of every kind, with the seeds seed, seed + 1, …"""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        small = dataclasses.replace(self, model="mlp", optimizers=("sgd",), learning_rates=(0.1, 10.0), stretch=5)
        return dataclasses.replace(small, epochs=1, seeds=2, train_images=300, test_images=100)

    def paper_sized(self) -> "Config":
        """Return a run of the published kind: VGG-16 on CIFAR-10, all of it."""
        published = dataclasses.replace(self, dataset="cifar10", model="vgg16", batch_size=128)
        return dataclasses.replace(published, epochs=160, stretch=195)


def run(config: Config) -> dict[str, Any]:
    """Train every kind of run from every seed and count its collapsed filters after every epoch."""
    train_data, test_data = config.load(train=True), config.load(train=False)
    middle = train_data.classes // 2
    before, half = (
        (train_data.of_classes(classes), test_data.of_classes(classes))
        for classes in (range(middle), range(middle, train_data.classes))
    )
    images = jnp.asarray(half[0].images)
    recipes = {
        (optimizer, name): Recipe(
            config.network(name, train_data.classes), optimizer_of_any_rate(optimizer, config.weight_decay)
        )
        for optimizer, name in product({*config.optimizers, "momentum"}, config.normalizers)
    }
    kinds = list(product(config.optimizers, config.learning_rates, config.starts, config.normalizers))
    fine_tuned = "fine_tuned" in config.starts
    count = config.seeds * (len(kinds) + len(config.normalizers) * fine_tuned)
    curves, runs, layers, bins, diverged = [], [], [], [], []
    with training_bar(count * config.epochs) as advance:

        def planned() -> Iterator[PlannedRun]:
            for seed in range(config.seed, config.seed + config.seeds):
                learned = {
                    name: _learned_before(config, name, recipes["momentum", name], before, seed, advance)
                    for name in config.normalizers
                    if fine_tuned
                }
                for optimizer, rate, start, name in kinds:
                    recipe = recipes[optimizer, name]
                    scaled = rate * COMPARED.get(optimizer, 1.0)
                    first = learned[name] if start == "fine_tuned" else None
                    yield PlannedRun(
                        {**dict(zip(KIND, (optimizer, rate, start, name), strict=True)), "seed": seed},
                        recipe,
                        partial(_observed, config, recipe, images),
                        start_at_rate(recipe, scaled, half[0].images, seed, first),
                    )

        for which, (trained, seen) in observed_runs(
            config,
            planned(),
            *half,
            order=partial(stretch_of_batches, config.stretch),
            advance=advance,
            diverged=diverged,
        ):
            shares = [collapsed_share(row["layers"]) for row in seen]
            curves += [
                {**which, **history, "collapsed": share, "step": history["epoch"] * config.stretch}
                for share, history in zip(shares[1:], trained.history, strict=True)
            ]
            runs.append({**which, **trained.history[-1], "collapsed": shares[-1]})
            layers += [{**which, **row, "share": row["collapsed"] / row["filters"]} for row in seen[-1]["layers"]]
            bins += [{**which, **row} for row in seen[-1]["histograms"]]
    return {
        "table": over_seeds(runs, KIND, METRICS),
        "tests": _tests(config, runs),
        "curves": over_seeds(curves, (*KIND, "step"), METRICS),
        "layers": over_seeds(layers, (*KIND, "layer", "name", "filters"), ("share",)),
        "histograms": over_seeds(bins, (*KIND, "quantity", "at"), ("share",)),
        "runs": runs,
        "diverged": diverged,
        "data": f"{half[0].name}; tested on {half[1].name}",
    }


def _learned_before(
    config: Config, name: NormalizerName, recipe: Recipe, data: Images, seed: int, advance: Callable[..., None]
) -> TrainState:
    """Return the state of a network that was trained on the other classes."""
    run_name = f"before-{name}-{seed}"
    try:
        return config.trained(
            recipe,
            *data,
            order=partial(stretch_of_batches, config.stretch),
            seed=seed,
            start=start_at_rate(recipe, config.pretraining_rate, data[0].images, seed),
            directory=config.checkpoints_of(run_name),
            report=partial(advance, run_name),
        ).state
    except LossNotFiniteError as error:
        raise LossNotFiniteError(f"{run_name} at --pretraining-rate {config.pretraining_rate:g}: {error}") from error


def _observed(config: Config, recipe: Recipe, images: Array, epoch: int, state: TrainState) -> dict[str, Any]:
    """Return how many filters of each layer are collapsed; at the end also how margins and scales are distributed."""
    found = filters(recipe.model, state, images)
    return {
        "layers": collapsed_by_layer(found),
        "histograms": histograms(found) if epoch == config.epochs else [],
    }


def _tests(config: Config, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare, seed by seed: normalizers, beginnings, the largest and the smallest rate, optimizers."""
    first, *others = config.normalizers
    smallest, largest = min(config.learning_rates), max(config.learning_rates)
    tests = []

    def compare(key: str, one: Any, against: Any, same: tuple[Any, ...], measure: str, claim: str) -> None:
        fixed = dict(zip([other for other in KIND if other != key], same, strict=True))
        chosen = [
            {**row, "normalizer": str(row[key])} for row in runs if all(row[name] == at for name, at in fixed.items())
        ]
        found = paired_test(chosen, str(one), str(against), measure, claim, seeds=config.seeds)
        tests.append({**found, "measure": f"{measure}: {', '.join(map(str, same))}"})

    for same in product(config.optimizers, config.learning_rates, config.starts):
        for name in others:
            compare("normalizer", name, first, same, "collapsed", "smaller")
            compare("normalizer", name, first, same, "test_accuracy", "larger")
    if "fine_tuned" in config.starts and "scratch" in config.starts:
        for optimizer, rate in product(config.optimizers, config.learning_rates):
            compare("start", "fine_tuned", "scratch", (optimizer, rate, first), "collapsed", "larger")
    if smallest < largest:
        for optimizer, start in product(config.optimizers, config.starts):
            compare("learning_rate", largest, smallest, (optimizer, start, first), "collapsed", "larger")
    if "adam" in config.optimizers and "sgd" in config.optimizers:
        for rate, start in product(config.learning_rates, config.starts):
            compare("optimizer", "adam", "sgd", (rate, start, first), "collapsed", "larger")
    return tests


def failures(results: dict[str, Any]) -> list[str]:
    """Return shares that are none; how many filters collapse is a result, not a check."""
    return [
        f"{row['normalizer']}, {row['optimizer']}, rate {row['learning_rate']:g}, {row['start']}: a share of "
        f"{row['collapsed']:g} is collapsed"
        for row in results["table"]
        if not 0 <= row["collapsed"] <= 1
    ]


if __name__ == "__main__":
    main(
        run,
        Config,
        name="experiments.filter_collapse",
        figures=figures,
        failures=failures,
        claims=claims,
        x64=False,
        sooner=True,
    )
