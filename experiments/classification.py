"""Does batch normalization hurt when every batch holds a single class?

    python -m experiments.classification
    python -m experiments.classification --dataset cifar10 --model vgg11 --batch-size 128 --epochs 100

The same network is trained without a normalizer, with batch and with layer normalization, on batches of random rows and
on batches of one class each, and tested with its running statistics. What a batch of one class cannot teach through
batch normalization are the first-order term and the diagonal of the second order of its loss (docs/theory.md, T1, T2).
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import optax

from bnjax.reporting.records import config_digest
from bnjax.training import Recipe, train
from experiments.command import main, training_bar
from experiments.networks import ORDERS, DataOptions, NormalizerName

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


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
    remainder: Literal["drop", "wrap"] = "drop"
    """What to do with the rows that do not fill a batch."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, epochs=2, seeds=1)


def run(config: Config) -> dict[str, Any]:
    """Train every normalizer on both kinds of batches from every seed."""
    train_data, test_data = config.load(train=True), config.load(train=False)
    optimizer = optax.chain(
        optax.add_decayed_weights(config.weight_decay), optax.sgd(config.learning_rate, config.momentum)
    )
    # Runs go on from their checkpoints only under the same options.
    options = {key: value for key, value in dataclasses.asdict(config).items() if key not in ("output", "data_dir")}
    folder = config.output and config.output / "runs" / config_digest(options)
    curves = []
    with training_bar(len(ORDERS) * len(config.normalizers) * config.seeds * config.epochs) as advance:
        for normalizer in config.normalizers:
            recipe = Recipe(config.network(normalizer, train_data.classes), optimizer)
            for kind, order in ORDERS.items():
                for seed in range(config.seed, config.seed + config.seeds):
                    run_name = f"{normalizer}-{kind}-{seed}"
                    trained = train(
                        recipe,
                        train_data,
                        test_data,
                        order=lambda *args, order=order: order(*args, remainder=config.remainder),
                        batch_size=config.batch_size,
                        epochs=config.epochs,
                        seed=seed,
                        directory=folder and folder / run_name,
                        report=lambda row, run_name=run_name: advance(run_name, row),
                    )
                    curves += [
                        {"normalizer": normalizer, "batches": kind, "seed": seed, **row} for row in trained.history
                    ]
    return {
        "table": [_last(curves, config, normalizer, kind) for normalizer in config.normalizers for kind in ORDERS],
        "curves": curves,
        "data": f"{train_data.name}; tested on {test_data.name}",
    }


def failures(results: dict[str, Any]) -> list[str]:
    """Return losses that are not finite; what a network learns is a result, not a check."""
    return [
        f"{row['normalizer']}, {row['batches']}: loss {row['train_loss']}"
        for row in results["table"]
        if not np.isfinite(row["train_loss"])
    ]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw loss and accuracy against the epoch for both kinds of batches."""
    from bnjax.reporting.figures import lines

    caption = (
        f"{results['data']}; {config['model']}, batches of {config['batch_size']} rows; mean and standard deviation "
        f"over {config['seeds']} seeds from {config['seed']}"
    )
    drawn = {}
    for metric, label in (
        ("test_accuracy", "test accuracy, running statistics"),
        ("train_loss", "training loss (mean, nats)"),
    ):
        rows = []
        for row in _over_seeds(results["curves"], metric):
            rows.append({**row, "normalizer, batches": f"{row['normalizer']}, {row['batches']}"})
        drawn[metric] = lines(
            rows,
            x="epoch",
            y=metric,
            spread="std",
            series="normalizer, batches",
            y_label=label,
            title="Batches of one class, and of random rows",
            caption=caption,
        )
    return drawn


def _over_seeds(curves: list[dict], metric: str) -> list[dict]:
    keys = dict.fromkeys((row["normalizer"], row["batches"], row["epoch"]) for row in curves)
    rows = []
    for normalizer, kind, epoch in keys:
        wanted = (normalizer, kind, epoch)
        values = [row[metric] for row in curves if (row["normalizer"], row["batches"], row["epoch"]) == wanted]
        mean, deviation = float(np.mean(values)), float(np.std(values))
        rows.append({"normalizer": normalizer, "batches": kind, "epoch": epoch, metric: mean, "std": deviation})
    return rows


def _last(curves: list[dict], config: Config, normalizer: str, kind: str) -> dict[str, Any]:
    """Return the metrics after the last epoch, mean and standard deviation over the seeds."""
    wanted = (normalizer, kind, config.epochs)
    alike = [row for row in curves if (row["normalizer"], row["batches"], row["epoch"]) == wanted]
    averages = {}
    for metric in METRICS:
        values = [row[metric] for row in alike]
        averages |= {metric: float(np.mean(values)), f"{metric}_std": float(np.std(values))}
    return {
        "model": config.model,
        "normalizer": normalizer,
        "batches": kind,
        **averages,
        "dropped": alike[0]["dropped"],
        "seeds": len(alike),
    }


if __name__ == "__main__":
    main(run, Config, name="experiments.classification", figures=figures, failures=failures, x64=False)
