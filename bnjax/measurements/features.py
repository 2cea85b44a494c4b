"""What do the features look like that a network classifies by? Their neighbourhoods, as a number and as a picture."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from bnjax.measurements.layers import applied_layers

Features = Float[np.ndarray, "n features"]


@partial(jax.jit, static_argnums=0, static_argnames="batch_size")
def last_layer_inputs(
    model: nn.Module, variables: Mapping[str, Any], images: Float[Array, "n ..."], *, batch_size: int = 256
) -> Float[Array, "n features"]:
    """Return what a network's last layer is applied to, in running mode, `batch_size` images at a time.

    Args:
        model: a linen module with `__call__(images, *, mode)`.
        variables: its parameters and statistics.
        images: the images.
        batch_size: how many of them at a time; it bounds the memory.

    Raises:
        ValueError: a network whose last layer with a kernel is not applied to one vector an image.
    """

    def of_row(image: Array) -> Array:
        _, layers = applied_layers(model, variables, image[None], mode="running")
        if not layers or layers[-1].input.ndim != 2:
            last = f"{layers[-1].name} of {layers[-1].input.shape[1:]}" if layers else "none"
            raise ValueError(f"the last layer with a kernel needs one vector an image, got {last}")
        return layers[-1].input[0]

    return jax.lax.map(of_row, images, batch_size=batch_size)


def neighbour_accuracy(features: Features, labels: Int[np.ndarray, " n"], *, neighbours: int = 5) -> float:
    """Return the share of rows whose label is the most frequent among the nearest other rows (Euclidean distance).

    Of labels that are equally frequent the smallest counts.

    Raises:
        ValueError: `neighbours` not between 1 and the number of other rows; features that are not finite, or not a
            matrix (scikit-learn's).

    Example:
        >>> features = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
        >>> neighbour_accuracy(features, np.array([0, 0, 0, 1, 1, 1]), neighbours=2)
        1.0
    """
    from sklearn.neighbors import NearestNeighbors

    if not 1 <= neighbours < len(features):
        raise ValueError(f"neighbours needs to be between 1 and the {len(features) - 1} other rows, got {neighbours}")
    nearest = NearestNeighbors(n_neighbors=neighbours).fit(features).kneighbors(return_distance=False)
    votes = np.sum(labels[nearest][..., None] == np.unique(labels), axis=1)
    return float(np.mean(np.unique(labels)[np.argmax(votes, axis=1)] == labels))


def t_sne(features: Features, *, seed: int, perplexity: float = 30.0) -> Float[np.ndarray, "n 2"]:
    """Return places in the plane whose neighbourhoods are those of the features (van der Maaten & Hinton 2008).

    Neither axes nor distances between clusters have a unit or a meaning. Rows that are all the same have no
    neighbourhoods; they are all put at 0.

    Args:
        features: the rows to place.
        seed: the seed of what is random.
        perplexity: about how many rows count as a row's neighbours; fewer than there are rows.

    Raises:
        ValueError: `perplexity` not above 0 or not below the number of rows, if these differ; features that are not
            finite, or not a matrix (scikit-learn's).
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if not np.any(np.ptp(features, axis=0)):
        return np.zeros((len(features), 2))
    if not 0 < perplexity < len(features):
        raise ValueError(f"perplexity needs to be above 0 and below the {len(features)} rows, got {perplexity}")
    # Its sums depend on the number of threads, which on shared cores moreover wait for one another most of the time.
    with threadpool_limits(1):
        return TSNE(perplexity=perplexity, random_state=seed).fit_transform(features).astype(float)
