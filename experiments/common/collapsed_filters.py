"""Which filters of a network are collapsed on all of its training images, and how near the border are the others?"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jaxtyping import Array

from bnjax.measurements import filter_margins
from bnjax.training import TrainState

# Images that go through the network at once.
CHUNK = 256
# Edges of the histograms.
EDGES = {"margin": np.linspace(-2, 6, 33), "scale": np.linspace(-0.5, 2.5, 31)}


def filters(model: nn.Module, state: TrainState, images: Array) -> dict[str, dict[str, list[float]]]:
    """Return margin and scale of every filter before a ReLU, by its normalizer; over all images, running statistics.

    Where a normalizer learns no scale it is 1.
    """
    params: dict[str, Any] = flatten_dict(state.params, sep="/")
    margins = jax.device_get(_margins(model, state, images))
    return {
        name: {
            "margin": margin.tolist(),
            "scale": np.asarray(params.get(f"{name}/scale", np.ones_like(margin))).tolist(),
        }
        for name, margin in margins.items()
    }


@partial(jax.jit, static_argnums=0)
def _margins(model: nn.Module, state: TrainState, images: Array) -> dict[str, Array]:
    def of_row(image: Array) -> dict[str, Array]:
        return filter_margins(model, state.variables, image[None], mode="running")

    return jax.tree.map(lambda rows: jnp.max(rows, axis=0), jax.lax.map(of_row, images, batch_size=CHUNK))


def collapsed_by_layer(found: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """Return how many filters of each normalizer are collapsed, from the input on."""
    return [
        {
            "layer": layer,
            "name": name,
            "filters": len(own["margin"]),
            "collapsed": int(np.sum(np.array(own["margin"]) < 0)),
        }
        for layer, (name, own) in enumerate(found.items(), start=1)
    ]


def collapsed_share(layers: Sequence[dict[str, Any]]) -> float:
    """Return the collapsed share of all filters."""
    return sum(row["collapsed"] for row in layers) / sum(row["filters"] for row in layers)


def histograms(found: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """Return which share of all filters has its margin, and its scale, in each bin; what is outside is in the last."""
    rows = []
    for quantity, edges in EDGES.items():
        values = np.concatenate([own[quantity] for own in found.values()])
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        rows += [
            {"quantity": quantity, "at": float(at), "share": float(count / len(values))}
            for at, count in zip((edges[1:] + edges[:-1]) / 2, counts, strict=True)
        ]
    return rows
