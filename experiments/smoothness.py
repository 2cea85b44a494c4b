"""How smooth is the loss of a network on images along its own gradient, with batch normalization and without?

    python -m experiments.smoothness
    python -m experiments.smoothness --preset paper --data-dir DIR

What is measured says `experiments.common.trajectory_point`.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import optax

from bnjax.training import Recipe
from experiments.claims.trajectory import (
    COVARIATE_SHIFT,
    CURVATURE,
    DEFINITION,
    LANDSCAPE,
    PREDICTIVENESS,
    SMOOTHNESS,
    THEOREM,
    trajectory_claims,
)
from experiments.common import trajectory_figures
from experiments.common.claim import Claim
from experiments.common.command import main
from experiments.common.networks import DataOptions, ModelName
from experiments.common.trajectory import failures, followed, summary
from experiments.common.trajectory_options import TrajectoryOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Config(TrajectoryOptions, DataOptions):
    """Follow loss, gradient and curvature along the gradient while a network is trained with each normalizer."""

    model: ModelName = "vgg_a_narrow"
    """The network."""

    def smoke_sized(self) -> Self:
        """Return a run of seconds."""
        small = dataclasses.replace(self, model="mlp", batch_size=16, epochs=2, stretch=2, seeds=2)
        return dataclasses.replace(small, lanczos_steps=4)

    def paper_sized(self) -> Self:
        """Return the published run: VGG-A on CIFAR-10 for 15,000 steps."""
        published = dataclasses.replace(self, dataset="cifar10", model="vgg_a", batch_size=128)
        return dataclasses.replace(published, epochs=150, stretch=100, spectrum_every=15)


def run(config: Config) -> dict[str, Any]:
    """Train every normalizer from every seed and measure the loss on the way."""
    train_data, test_data = config.load(train=True), config.load(train=False)
    optimizer = optax.sgd(config.learning_rate)
    recipes = {name: Recipe(config.network(name, train_data.classes), optimizer) for name in config.normalizers}
    return followed(config, recipes, train_data, test_data)


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw what was measured of the network."""
    return trajectory_figures.figures(results, config, network=config["model"])


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of batch normalization; that the network trains faster is a claim of `performance`."""
    places = {
        LANDSCAPE: "Fig. 4",
        PREDICTIVENESS: "Fig. 4",
        SMOOTHNESS: "Fig. 4",
        CURVATURE: THEOREM,
        COVARIATE_SHIFT: DEFINITION,
    }
    return trajectory_claims(results, config, "With batch normalization", places)


if __name__ == "__main__":
    main(
        run,
        Config,
        name="experiments.smoothness",
        figures=figures,
        failures=failures,
        claims=claims,
        summary=summary,
        sooner=True,
    )
