"""How much better does a network train with batch normalization, at which learning rates?

    python -m experiments.performance
    python -m experiments.performance --dataset cifar10 --model vgg_a --batch-size 128 --epochs 38
    python -m experiments.performance --dataset mnist --model lenet_v2 --normalizers batch_norm --optimizer adam
        --learning-rates 0.002 --epochs 10 --batch-size 128

The same network with each normalizer, from the same seeds, on the same batches, at every learning rate: curves of loss
and accuracy (arXiv 1805.11604, Fig. 1). A run whose loss becomes infinite or NaN counts as diverged.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from itertools import product
from time import perf_counter
from typing import TYPE_CHECKING, Any

from bnjax.training import LossNotFiniteError, Recipe
from experiments.claims.tested import claim_of_tests, comparisons
from experiments.common.averages import left_out, over_seeds, paired_test
from experiments.common.claim import OPTIMIZATION, Claim
from experiments.common.command import main
from experiments.common.networks import (
    DataOptions,
    ModelName,
    NormalizerName,
    OptimizerName,
    optimizer_of_any_rate,
    start_at_rate,
)
from experiments.common.progress import training_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = ("normalizer", "learning_rate")
# What the paper says of batch normalization in comparison: of the mean loss over all epochs, and at the end.
CLAIMS = {"train_loss": "smaller: trains faster", "test_accuracy": "larger"}
METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


@dataclass(frozen=True)
class Config(DataOptions):
    """Train a network with and without batch normalization at several learning rates."""

    model: ModelName = "vgg_a_narrow"
    """The network."""
    normalizers: tuple[NormalizerName, ...] = ("none", "batch_norm")
    """The normalizers to compare."""
    optimizer: OptimizerName = "sgd"
    """Plain SGD, SGD with momentum 0.9, or Adam."""
    learning_rates: tuple[float, ...] = (0.1, 0.01)
    """The learning rates to compare."""
    batch_size: int = 32
    """Rows of a batch."""
    epochs: int = 20
    """Epochs of training."""
    seeds: int = 3
    """Runs of every kind, with the seeds seed, seed + 1, …"""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, model="mlp", epochs=1, seeds=1, learning_rates=self.learning_rates[:1])

    def paper_sized(self) -> "Config":
        """Return the published run: VGG-A on CIFAR-10 for 15,000 steps, 38 epochs of 390."""
        return dataclasses.replace(self, dataset="cifar10", model="vgg_a", batch_size=128, epochs=38)


def run(config: Config) -> dict[str, Any]:
    """Train every normalizer at every learning rate from every seed."""
    train_data, test_data = config.load(train=True), config.load(train=False)
    optimizer = optimizer_of_any_rate(config.optimizer)
    recipes = {name: Recipe(config.network(name, train_data.classes), optimizer) for name in config.normalizers}
    seeds = range(config.seed, config.seed + config.seeds)
    curves, runs, diverged = [], [], []
    with training_bar(len(config.normalizers) * len(config.learning_rates) * config.seeds * config.epochs) as advance:
        for normalizer, rate in product(config.normalizers, config.learning_rates):
            for seed in seeds:
                which = {"normalizer": normalizer, "learning_rate": rate, "seed": seed}
                begin = perf_counter()
                try:
                    trained = config.trained(
                        recipes[normalizer],
                        train_data,
                        test_data,
                        report=partial(advance, f"{normalizer}, learning rate {rate:g}, seed {seed}"),
                        seed=seed,
                        start=start_at_rate(recipes[normalizer], rate, train_data.images, seed),
                        directory=config.checkpoints_of(f"{normalizer}-{rate:g}-{seed}"),
                    )
                except LossNotFiniteError as error:
                    diverged.append({**which, "reason": str(error)})
                    continue
                curves += [{**which, **row} for row in trained.history]
                runs.append({**which, **trained.history[-1], "seconds": perf_counter() - begin})
    return {
        "table": _table(config, runs, diverged),
        "tests": _tests(config, curves, runs),
        "runs": runs,
        "curves": curves,
        "diverged": diverged,
        "data": f"{train_data.name}; tested on {test_data.name}",
        "steps": config.epochs * (len(train_data.labels) // config.batch_size),
    }


def _table(config: Config, runs: list[dict], diverged: list[dict]) -> list[dict[str, Any]]:
    """Return a row for every kind of run; one of which all runs diverged has no metrics but a reason."""
    averages = {tuple(row[key] for key in KIND): row for row in over_seeds(runs, KIND, (*METRICS, "seconds"))}
    table = []
    for kind in product(config.normalizers, config.learning_rates):
        lost = [row["reason"] for row in diverged if tuple(row[key] for key in KIND) == kind]
        nothing = dict.fromkeys(f"{metric}{suffix}" for metric in (*METRICS, "seconds") for suffix in ("", "_std"))
        table.append(
            {
                "model": config.model,
                "optimizer": config.optimizer,
                **dict(zip(KIND, kind, strict=True)),
                **averages.get(kind, {**nothing, "seeds": 0}),
                "diverged": len(lost),
                "reason": lost[0] if lost else "",
            }
        )
    return table


def _tests(config: Config, curves: list[dict], runs: list[dict]) -> list[dict[str, Any]]:
    """Compare every normalizer with the first, seed by seed, at each learning rate; not where runs diverged."""
    rows = []
    for name, rate, (measure, claim) in product(config.normalizers[1:], config.learning_rates, CLAIMS.items()):
        source = curves if measure == "train_loss" else runs
        alike = [row for row in source if row["learning_rate"] == rate]
        found = paired_test(alike, name, config.normalizers[0], measure, claim, seeds=config.seeds)
        rows.append({**found, "measure": f"{measure}, rate {rate:g}"})
    return rows


def failures(results: dict[str, Any]) -> list[str]:
    """Return a complaint if not one run ended; that some diverge is a result."""
    return [] if results["runs"] else ["every run diverged: " + results["diverged"][0]["reason"]]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw loss and accuracy against the epoch, a line a normalizer and learning rate."""
    from bnjax.reporting.figures import lines

    caption = (
        f"{results['data']}; {config['model']}, {config['optimizer']}, {results['steps']} steps of "
        f"{config['batch_size']} images; mean and standard deviation over {config['seeds']} seeds from "
        f"{config['seed']}{left_out(results)}"
    )
    labels = {
        "train_loss": "training loss, batch mode (mean, nats)",
        "train_accuracy": "training accuracy, batch mode",
        "test_accuracy": "test accuracy, running statistics",
    }
    series = "normalizer, learning rate"
    return {
        metric: lines(
            [
                {**row, series: f"{row['normalizer']}, {row['learning_rate']:g}"}
                for row in over_seeds(results["curves"], (*KIND, "epoch"), (metric,))
            ],
            x="epoch",
            y=metric,
            spread=f"{metric}_std",
            series=series,
            y_label=label,
            title="Training with each normalizer and learning rate",
            caption=caption,
        )
        for metric, label in labels.items()
        if results["curves"]
    }


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of batch normalization beside none."""
    return [
        claim
        for measure, sentence in (
            ("train_loss", "With batch normalization a network trains faster."),
            ("test_accuracy", "With batch normalization a network is more accurate at the end."),
        )
        for claim in claim_of_tests(
            OPTIMIZATION,
            "Fig. 1",
            sentence,
            comparisons(results, "batch_norm", "none", measure),
            results,
            config,
        )
    ]


if __name__ == "__main__":
    shown = (
        *KIND,
        "train_loss",
        "train_accuracy",
        "test_accuracy",
        "test_accuracy_std",
        "seconds",
        "seeds",
        "diverged",
    )
    main(
        run,
        Config,
        name="experiments.performance",
        figures=figures,
        failures=failures,
        claims=claims,
        columns=shown,
        x64=False,
        sooner=True,
    )
