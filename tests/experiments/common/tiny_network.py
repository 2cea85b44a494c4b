"""A network of two features that takes no training, in the form in which the experiments measure trained ones."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.derivatives.heads import cross_entropy_head
from experiments.common.small_network import TrainedNetwork


def _logits(weights: jax.Array, row: jax.Array) -> jax.Array:
    return row @ weights


def tiny_network(labels: Sequence[int] = (0,) * 6) -> TrainedNetwork:
    """Return a network of two features and three classes with a test image for each label."""
    generator = np.random.default_rng(0)
    return TrainedNetwork(
        head=cross_entropy_head(jax.tree_util.Partial(_logits, generator.normal(size=(2, 3)))),
        norm_params={"scale": jnp.asarray([1.0, 0.5]), "bias": jnp.asarray([0.2, -0.1])},
        features=generator.normal(size=(len(labels), 2)),
        labels=np.asarray(labels),
        data="random rows",
        accuracy=1.0,
    )
