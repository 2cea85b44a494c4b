"""How much of each part of the gradient gets back at every normalizer of a network, in which precision?"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jaxtyping import Array

from bnjax.models import normalizer_names, passages
from bnjax.normalizers import batch_norm
from bnjax.training import TrainState
from experiments.common.carried_back import carried_back, part_rows
from experiments.common.networks import fixed_keys

EPSILON = 1e-5
# What is added to the variance in the layer that is measured, and in which precision.
PRECISIONS = {
    "ε = 1e-5, float32": (EPSILON, "float32"),
    "ε = 1e-5, float64": (EPSILON, "float64"),
    "ε = 0, float64": (0.0, "float64"),
}


def measured_layers(model: nn.Module, state: TrainState, images: Array, labels: Array) -> list[dict[str, Any]]:
    """Return a row for every normalizer, precision and part, on one batch."""
    variables = state.variables
    rngs = fixed_keys()
    names = normalizer_names(model, variables, images, rngs=rngs)
    table = []
    for epsilon, dtype in PRECISIONS.values():
        cast = partial(jax.tree.map, lambda leaf, dtype=dtype: leaf.astype(dtype))
        passing = _passages(model, cast(variables), cast(images), labels, rngs)
        for layer, name in enumerate(names, start=1):
            features, gradient = passing[name]
            measured = jax.device_get(carried_back(batch_norm(epsilon=epsilon), features, gradient))
            place = {"layer": layer, "name": name, "entries": features.size // features.shape[-1]}
            table += [{**place, "epsilon": epsilon, "dtype": dtype, **row} for row in part_rows(measured, epsilon)]
    return table


@partial(jax.jit, static_argnums=0)
def _passages(
    model: nn.Module, variables: dict[str, Any], images: Array, labels: Array, rngs: dict[str, Array]
) -> dict[str, tuple[Array, Array]]:
    """Return the features before every normalizer, and the mean loss's gradient at its standardized output."""

    def loss(logits: Array) -> Array:
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    params: dict[str, Any] = flatten_dict(variables["params"], sep="/")
    return {
        name: (passage.features, passage.gradient * params[f"{name}/scale"])
        for name, passage in passages(model, variables, images, loss, rngs=rngs).items()
    }
