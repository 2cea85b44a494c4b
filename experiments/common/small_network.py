"""A small network for images, cut in two at its normalizer: trunk → normalizer → ReLU → head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array

from bnjax.data import LabelledImages
from bnjax.derivatives.heads import LogitsHead, cross_entropy_head
from bnjax.models import Normalization
from bnjax.normalizers import Normalizer
from experiments.common.averages import over_seeds
from experiments.common.image_sets import ImageOptions

TRAINING_ROWS = 64


@dataclass(frozen=True)
class NetworkOptions(ImageOptions):
    """The options of an experiment on the small network."""

    least: ClassVar[Mapping[str, int]] = {**ImageOptions.least, "train_images": TRAINING_ROWS}

    rows: int = 32
    """Rows of a batch."""
    features: int = 8
    """Features (channels) at the normalizer."""
    hidden: int = 16
    """Width of the head's hidden layer."""
    steps: int = 300
    """Training steps before the measurement."""
    seeds: int = 5
    """Networks, from as many seeds."""

    def trained_networks(self, norm: Normalizer, *, convolutional: bool = False) -> "dict[int, TrainedNetwork]":
        """Return for each seed its network after a moment of training with a normalizer."""
        return train_small_networks(
            norm,
            self.images(train=True),
            self.images(train=False),
            features=self.features,
            hidden=self.hidden,
            steps=self.steps,
            seeds=range(self.seed, self.seed + self.seeds),
            convolutional=convolutional,
        )


class SmallNetwork(nn.Module):
    """trunk → normalizer → ReLU → head; the normalizer stands before the ReLU, so that no feature is constant.

    Attributes:
        norm: the normalizer.
        classes: number of classes.
        features: features (channels) at the normalizer.
        hidden: width of the head's hidden layer.
        strides: of the trunk's convolution, whose kernels are one pixel larger; None: the trunk is a linear layer.
        dtype: the dtype of weights and features.
    """

    norm: Normalizer
    classes: int
    features: int
    hidden: int
    strides: int | None
    dtype: jnp.dtype

    def setup(self) -> None:
        """Build the three parts."""
        linear = partial(nn.Dense, dtype=self.dtype, param_dtype=self.dtype)
        if self.strides is None:
            self.first = linear(self.features)
        else:
            size, strides = (self.strides + 1,) * 2, self.strides
            self.first = nn.Conv(self.features, size, strides=strides, dtype=self.dtype, param_dtype=self.dtype)
        self.normalization = Normalization(self.norm)
        self.second = linear(self.hidden)
        self.third = linear(self.classes)

    def trunk(self, images: Array) -> Array:
        """Return the features before the normalizer."""
        return self.first(images.reshape(len(images), -1) if self.strides is None else images)

    def head(self, y: Array) -> Array:
        """Return the logits from one row of the normalizer's output."""
        return self.third(nn.relu(self.second(nn.relu(y).ravel())))

    def __call__(self, images: Array) -> Array:
        """Return the logits of a batch in batch mode."""
        return jax.vmap(self.head)(self.normalization(self.trunk(images)))


class TrainedNetwork(NamedTuple):
    """A trained network in the form that the derivative calls take.

    Attributes:
        head: `(y_row, label) -> loss`, with the weights as its leaves.
        norm_params: scale and bias of the normalizer.
        features: the test images' features before the normalizer, (n, d) or (n, h, w, d).
        labels: their labels.
        data: what to call the data on a figure.
        accuracy: the share of training images classified right in the last 100 steps' batches.
    """

    head: LogitsHead
    norm_params: dict[str, Array]
    features: np.ndarray
    labels: np.ndarray
    data: str
    accuracy: float


def train_small_networks(
    norm: Normalizer,
    train: LabelledImages,
    test: LabelledImages,
    *,
    features: int,
    hidden: int,
    steps: int,
    seeds: Sequence[int],
    convolutional: bool = False,
) -> dict[int, TrainedNetwork]:
    """Train for a moment with Adam (rate 3e-3, mixed batches of 64) and cut the networks at their normalizers.

    One program trains them all, and their heads are one function of different weights: what is compiled for one serves
    the others. With `convolutional` the features lie on 4×4 positions.

    Returns:
        The network of each seed.
    """
    dtype = jnp.result_type(float)
    strides = train.images.shape[1] // 4 if convolutional else None
    model = SmallNetwork(norm, train.classes, features, hidden, strides, dtype)
    optimizer = optax.adam(3e-3)

    def step(images, labels, state, key):
        params, stats, optimizer_state = state
        chosen = jax.random.choice(key, len(images), (TRAINING_ROWS,), replace=False)

        def loss_of(params):
            logits, updates = model.apply(
                {"params": params, "batch_stats": stats}, images[chosen], mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[chosen])
            right = jnp.mean(jnp.argmax(logits, axis=-1) == labels[chosen])
            return jnp.mean(losses), (updates["batch_stats"], right)

        gradient, (stats, right) = jax.grad(loss_of, has_aux=True)(params)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        return (optax.apply_updates(params, updates), stats, optimizer_state), right

    def trained(seed, images, labels, test_images):
        init_key, batch_key = jax.random.split(jax.random.key(seed))
        variables = model.init(init_key, images[:2])
        params = variables["params"]
        state = params, variables["batch_stats"], optimizer.init(params)
        (params, _, _), right = jax.lax.scan(partial(step, images, labels), state, jax.random.split(batch_key, steps))
        return params, model.apply({"params": params}, test_images, method="trunk"), jnp.mean(right[-100:])

    images = train.images.astype(dtype), train.labels, test.images.astype(dtype)
    of_all = jax.jit(jax.vmap(trained, in_axes=(0, None, None, None)))
    outcomes = of_all(np.asarray(seeds), *images)

    def logits_of(params, row: Array):
        return model.apply({"params": params}, row, method="head")

    networks = {}
    for number, seed in enumerate(seeds):
        params, test_features, accuracy = jax.tree.map(itemgetter(number), outcomes)
        networks[seed] = TrainedNetwork(
            head=cross_entropy_head(jax.tree_util.Partial(logits_of, params)),
            norm_params=params["normalization"],
            features=np.asarray(test_features),
            labels=test.labels,
            data=test.name,
            accuracy=float(accuracy),
        )
    return networks


def averaged(
    rows: Sequence[dict[str, Any]], by: Sequence[str], metrics: Sequence[str], *, counted: str
) -> list[dict[str, Any]]:
    """Return mean and standard deviation of the metrics over all rows that agree in the keys `by`.

    A row without a `survival` is left out, unless none of its group has one: then all of them are averaged, and the
    survival is None with the first one's `reason`.

    Returns:
        A row for each group, in the order of first appearance: the keys, each metric and `<metric>_std` (population
        standard deviation), `counted`: how many rows have a survival, and the `reason`.
    """
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in by), []).append(row)
    table = []
    for alike in groups.values():
        measured = [row for row in alike if row["survival"] is not None]
        (average,) = over_seeds(measured or alike, by, metrics)
        del average["seeds"]
        table.append({**average, counted: len(measured), "reason": "" if measured else alike[0]["reason"]})
    return table


def told(row: dict[str, Any], config: dict[str, Any]) -> str:
    """Return over how many networks a row of a table is the mean, and of how many that were trained if not all."""
    left_out = config["seeds"] - row["seeds"]
    return f"{row['seeds']} networks" + (f" ({left_out} more have no such gradient)" if left_out else "")


def batches(network: TrainedNetwork, rows: int, kind: str, count: int, seed: int) -> list[np.ndarray]:
    """Return the indices of `count` batches: `single_class` (batch k holds class k mod 10) or `mixed`.

    Raises:
        ValueError: fewer images than rows, of one of the classes or at all.
    """
    generator = np.random.default_rng(seed)
    pools = [np.flatnonzero(network.labels == k % 10) if kind == "single_class" else None for k in range(count)]
    pools = [np.arange(len(network.labels)) if pool is None else pool for pool in pools]
    smallest = min(len(pool) for pool in pools)
    if rows > smallest:
        raise ValueError(
            f"each of the {kind} batches of {rows} rows needs as many test images to be drawn from, got {smallest} for "
            f"one ({network.data}); take more --test-images, or fewer rows"
        )
    return [generator.choice(pool, rows, replace=False) for pool in pools]
