"""How smooth is the loss of a deep linear network, with batch normalization and without?

    python -m experiments.deep_linear
    python -m experiments.deep_linear --preset paper

25 matrices of 10×10 learn a Gaussian linear map from 1,000 Gaussian inputs, `min ‖W_25 … W_1 x - A x‖²`, all inputs in
every batch (arXiv 1805.11604, appendix B). What is measured says `experiments.common.trajectory_point`.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int

from bnjax.data import LabelledImages
from bnjax.models import DeepLinear
from bnjax.normalizers import Normalizer
from bnjax.normalizers.normalizer import Mode
from bnjax.training import Recipe
from experiments.claims.trajectory import (
    COVARIATE_SHIFT,
    CURVATURE,
    DEFINITION,
    SENTENCES,
    THEOREM,
    trajectory_claims,
)
from experiments.common import trajectory_figures
from experiments.common.claim import Claim
from experiments.common.command import main
from experiments.common.networks import NORMALIZERS
from experiments.common.trajectory import failures, followed, summary
from experiments.common.trajectory_options import TrajectoryOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INPUTS, FEATURES = 1000, 10


@dataclass(frozen=True)
class Config(TrajectoryOptions):
    """Follow loss, gradient and curvature while a deep linear network learns a linear map."""

    depth: int = 25
    """Matrices."""
    batch_size: int = INPUTS
    """Rows of a batch; all of them is gradient descent."""
    epochs: int = 10
    """Stretches of training; the loss is measured before the first and after each."""
    stretch: int = 100
    """Steps of a stretch."""
    learning_rate: float = 1e-3
    """Learning rate of the mean loss: that of the published sum over 1,000 inputs, 1e-6, times 1,000."""
    step_range: tuple[float, float] = (0.01, 30.0)
    """The smallest and the largest step along the gradient, in learning rates."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, depth=3, epochs=2, stretch=2, seeds=2, lanczos_steps=4)

    def paper_sized(self) -> "Config":
        """Return the published run of 10,000 steps."""
        return dataclasses.replace(self, epochs=100, stretch=100, spectrum_every=10)


class Remainder(nn.Module):
    """`W_depth … W_1 x - A x`: what a deep linear network has not learned yet.

    Attributes:
        depth: number of matrices.
        norm: the normalizer between the matrices.
        seed: of the map A.
    """

    depth: int
    norm: Normalizer
    seed: int

    @nn.compact
    def __call__(self, x: Float[Array, "n features"], *, mode: Mode = "batch") -> Float[Array, "n features"]:
        """Return the remainder of every row."""
        target = jax.random.normal(jax.random.key(self.seed), (FEATURES, FEATURES), x.dtype)
        return DeepLinear(self.depth, FEATURES, norm=self.norm)(x, mode=mode) - x @ target.T


def squared_norm(remainders: Float[Array, "n features"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    """Return the loss of every row; there are no labels in it."""
    del labels
    return jnp.sum(jnp.square(remainders), axis=-1)


def closeness(remainders: Float[Array, "n features"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    """Return the score of every row, the negative loss."""
    return -squared_norm(remainders, labels)


def run(config: Config) -> dict[str, Any]:
    """Train every normalizer from every seed and measure the loss on the way."""
    optimizer = optax.sgd(config.learning_rate)
    recipes = {
        name: Recipe(
            Remainder(config.depth, NORMALIZERS[name], config.seed), optimizer, loss=squared_norm, score=closeness
        )
        for name in config.normalizers
    }
    return followed(config, recipes, *(_inputs(config.seed, part) for part in ("training", "test")))


def _inputs(seed: int, part: str) -> LabelledImages:
    """Return Gaussian vectors in the place of images; they have no classes."""
    vectors = np.random.default_rng([seed, part == "test"]).standard_normal((INPUTS, FEATURES)).astype(np.float32)
    return LabelledImages(vectors, np.zeros(INPUTS, np.int32), f"{INPUTS:,} Gaussian vectors ({part})", classes=1)


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw what was measured of the network."""
    return trajectory_figures.figures(results, config, network=f"{config['depth']} matrices of 10×10")


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of batch normalization in a deep linear network."""
    places = {**dict.fromkeys(SENTENCES, "appendix B"), CURVATURE: THEOREM, COVARIATE_SHIFT: DEFINITION}
    return trajectory_claims(results, config, "In a deep linear network with batch normalization", places)


if __name__ == "__main__":
    main(
        run,
        Config,
        name="experiments.deep_linear",
        figures=figures,
        failures=failures,
        claims=claims,
        summary=summary,
        sooner=True,
    )
