"""Do collapsed filters come back when batch normalization is shifted?

    python -m experiments.collapse_recovery
    python -m experiments.collapse_recovery --dataset cifar10 --model vgg_a --data-dir DIR

A network with batch normalization loses filters at a large learning rate. From there it is trained on at a smaller one,
with batch normalization as before, and with post-shifted batch normalization on the same parameters: a constant is
added to what every normalizer returns, so that filters near the border live at once, and weight decay draws the others
towards it (arXiv 2001.11216; docs/theory.md, F3).
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.training import Recipe, TrainState
from experiments.claims.collapse import claims_of_shift
from experiments.common.averages import compared, over_seeds, paired_test, without_test
from experiments.common.claim import Claim
from experiments.common.collapsed_filters import filters
from experiments.common.command import main
from experiments.common.networks import DataOptions, ModelName, optimizer_of_any_rate, start_at_rate
from experiments.common.observed import trained_and_observed
from experiments.common.progress import training_bar
from experiments.common.stretches import stretch_of_batches

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMPARED = ("batch_norm", "post_shifted_batch_norm")
METRICS = ("collapsed", "recovered", "test_accuracy")
NONE_LOST = "no filter was lost; a larger --collapsing-rate"


@dataclass(frozen=True)
class Config(DataOptions):
    """Count the filters that come back after batch normalization was replaced by post-shifted batch normalization."""

    model: ModelName = "vgg_a_narrow"
    """The network."""
    collapsing_rate: float = 0.5
    """Learning rate, with momentum 0.9, at which filters are lost."""
    learning_rate: float = 0.05
    """Learning rate, with momentum 0.9, from then on."""
    weight_decay: float = 5e-3
    """Weight decay of every parameter, added to its gradient, on scales and biases too."""
    batch_size: int = 32
    """Rows of a batch."""
    epochs: int = 8
    """Stretches of training, before and after; filters are counted after each."""
    stretch: int = 40
    """Steps of a stretch."""
    seeds: int = 3
    """Networks, with the seeds seed, seed + 1, …"""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        small = dataclasses.replace(self, model="mlp", collapsing_rate=20.0, epochs=1, stretch=10, seeds=2)
        return dataclasses.replace(small, train_images=300, test_images=100)

    def paper_sized(self) -> "Config":
        """Return a run of the published kind: VGG-16 on CIFAR-10."""
        published = dataclasses.replace(self, dataset="cifar10", model="vgg16", batch_size=128, weight_decay=5e-4)
        return dataclasses.replace(published, epochs=80, stretch=390)


def run(config: Config) -> dict[str, Any]:
    """Collapse a network from every seed and train it on in both ways."""
    train_data, test_data = config.load(train=True), config.load(train=False)
    images = jnp.asarray(train_data.images)
    optimizer = optimizer_of_any_rate("momentum", config.weight_decay)
    recipes = {name: Recipe(config.network(name, train_data.classes), optimizer) for name in COMPARED}
    observe = {name: partial(_dead, recipe, images) for name, recipe in recipes.items()}
    rows, counts = [], []
    with training_bar(config.seeds * 3 * config.epochs) as advance:
        for seed in range(config.seed, config.seed + config.seeds):
            go_on = partial(
                trained_and_observed,
                config,
                train_data=train_data,
                test_data=test_data,
                order=partial(stretch_of_batches, config.stretch),
                seed=seed,
                advance=advance,
            )

            start = start_at_rate(recipes["batch_norm"], config.collapsing_rate, train_data.images, seed)
            before, seen = go_on(
                f"collapsing-{seed}", recipes["batch_norm"], start=start, observe=observe["batch_norm"]
            )
            lost = np.array(seen[-1])
            counts.append({"seed": seed, "filters": len(lost), "collapsed": int(lost.sum())})
            for name in COMPARED:
                after, found = go_on(
                    f"{name}-{seed}",
                    recipes[name],
                    start=start_at_rate(
                        recipes[name], config.learning_rate, train_data.images, seed, learned=before.state
                    ),
                    observe=observe[name],
                )
                accuracies = [before.history[-1], *after.history]
                rows += [
                    {"normalizer": name, "seed": seed, "step": epoch * config.stretch}
                    | {"test_accuracy": accuracy["test_accuracy"]}
                    | _compared(lost, np.array(dead))
                    for epoch, (dead, accuracy) in enumerate(zip(found, accuracies, strict=True))
                ]
    return {
        "table": [
            {**row, "reason": NONE_LOST if row["recovered"] is None else ""}
            for row in over_seeds(rows, ("normalizer", "step"), METRICS)
        ],
        "tests": _tests(rows, config),
        "networks": counts,
        "runs": rows,
        "data": f"{train_data.name}; tested on {test_data.name}",
    }


def _dead(recipe: Recipe, images: jax.Array, epoch: int, state: TrainState) -> list[bool]:
    """Return of every filter before a ReLU whether it is collapsed on all images."""
    del epoch
    found = filters(recipe.model, state, images)
    return [margin < 0 for own in found.values() for margin in own["margin"]]


def _compared(lost: np.ndarray, dead: np.ndarray) -> dict[str, Any]:
    """Return the collapsed share of all filters, and which share of those that were lost is alive again."""
    recovered = float(np.mean(~dead[lost])) if lost.any() else None
    return {"collapsed": float(np.mean(dead)), "recovered": recovered, "reason": "" if lost.any() else NONE_LOST}


def _tests(rows: list[dict[str, Any]], config: Config) -> list[dict[str, Any]]:
    """Compare both at the end, seed by seed."""
    last = [row for row in rows if row["step"] == config.epochs * config.stretch]
    said = {"recovered": "larger", "collapsed": "smaller", "test_accuracy": "larger"}
    shifted, plain = reversed(COMPARED)
    if any(row["recovered"] is None for row in last):
        return [
            {"normalizer": shifted, "against": plain, "measure": measure, **without_test(claim, NONE_LOST)}
            for measure, claim in said.items()
        ]
    return [paired_test(last, shifted, plain, measure, claim, seeds=config.seeds) for measure, claim in said.items()]


def failures(results: dict[str, Any]) -> list[str]:
    """Return networks that lost nothing, of which nothing can be learned."""
    return [f"seed {row['seed']}: no filter was lost" for row in results["networks"] if row["collapsed"] == 0]


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of filters that are lost already."""
    sentences = {
        "recovered": "Post-shifted batch normalization brings lost filters back.",
        "test_accuracy": "A network whose filters came back is more accurate.",
    }
    return claims_of_shift(results, config, sentences)


def summary(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the paired comparisons at the end."""
    return compared(results["tests"])


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the recovered share of the lost filters, the collapsed share of all, and the accuracy against the step."""
    from bnjax.reporting.figures import lines

    lost = " and ".join(f"{row['collapsed']} of {row['filters']}" for row in results["networks"])
    caption = (
        f"{results['data']}; {config['model']}, batches of {config['batch_size']}, momentum 0.9, rate "
        f"{config['collapsing_rate']:g} before and {config['learning_rate']:g} from step 0 on, weight decay "
        f"{config['weight_decay']:g}; lost before: {lost}; mean and standard deviation over {config['seeds']} seeds "
        f"from {config['seed']}"
    )
    return {
        measure: lines(
            results["table"],
            x="step",
            y=measure,
            spread=f"{measure}_std",
            series="normalizer",
            x_label="training step after the change",
            y_label=label,
            title=title,
            caption=caption,
        )
        for measure, label, title in (
            ("recovered", "share of the lost filters that is alive again", "How many lost filters come back"),
            ("collapsed", "collapsed share of all filters", "How many filters are dead"),
            ("test_accuracy", "test accuracy, running statistics", "Accuracy while lost filters come back"),
        )
    }


if __name__ == "__main__":
    main(
        run,
        Config,
        name="experiments.collapse_recovery",
        figures=figures,
        failures=failures,
        claims=claims,
        summary=summary,
        x64=False,
        sooner=True,
    )
