"""A small network for the embedded digits, cut in two at its normalizer: trunk → normalizer → ReLU → head."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array

from bnjax.data import digits
from bnjax.derivatives.heads import LogitsHead, cross_entropy_head
from bnjax.models import Normalization
from bnjax.normalizers import Normalizer
from experiments.command import Options


@dataclass(frozen=True)
class NetworkOptions(Options):
    """The options of an experiment on the digits network."""

    rows: int = 32
    """Rows of a batch."""
    features: int = 8
    """Features (channels) at the normalizer."""
    hidden: int = 16
    """Width of the head's hidden layer."""
    steps: int = 300
    """Training steps before the measurement."""


class DigitsNetwork(nn.Module):
    """trunk → normalizer → ReLU → head; the normalizer stands before the ReLU, so that no feature is constant.

    Attributes:
        norm: the normalizer.
        features: features (channels) at the normalizer.
        hidden: width of the head's hidden layer.
        convolutional: whether the trunk is a strided 3×3 convolution (features on 4×4 positions) or a linear layer.
        dtype: the dtype of weights and features.
    """

    norm: Normalizer
    features: int
    hidden: int
    convolutional: bool
    dtype: jnp.dtype

    def setup(self) -> None:
        """Build the three parts."""
        convolution = partial(nn.Conv, kernel_size=(3, 3), strides=2, dtype=self.dtype, param_dtype=self.dtype)
        linear = partial(nn.Dense, dtype=self.dtype, param_dtype=self.dtype)
        self.first = convolution(self.features) if self.convolutional else linear(self.features)
        self.normalization = Normalization(self.norm)
        self.second = linear(self.hidden)
        self.third = linear(10)

    def trunk(self, images: Array) -> Array:
        """Return the features before the normalizer."""
        return self.first(images if self.convolutional else images.reshape(len(images), -1))

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


def train_digits_network(
    norm: Normalizer, *, features: int, hidden: int, steps: int, seed: int, convolutional: bool = False
) -> TrainedNetwork:
    """Train for a moment with Adam (rate 3e-3, mixed batches of 64) and cut the network at its normalizer."""
    train, test = digits(train=True), digits(train=False)
    dtype = jnp.result_type(float)
    model = DigitsNetwork(norm, features, hidden, convolutional, dtype)
    images, labels = jnp.asarray(train.images, dtype), jnp.asarray(train.labels)
    optimizer = optax.adam(3e-3)

    def step(state, key):
        params, stats, optimizer_state = state
        chosen = jax.random.choice(key, len(images), (64,), replace=False)

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

    @jax.jit
    def trained():
        init_key, batch_key = jax.random.split(jax.random.key(seed))
        variables = model.init(init_key, images[:2])
        params = variables["params"]
        state = params, variables["batch_stats"], optimizer.init(params)
        (params, _, _), right = jax.lax.scan(step, state, jax.random.split(batch_key, steps))
        features = model.apply({"params": params}, jnp.asarray(test.images, dtype), method="trunk")
        return params, features, jnp.mean(right[-100:])

    params, features, accuracy = trained()

    def logits_of(params, row: Array):
        return model.apply({"params": params}, row, method="head")

    return TrainedNetwork(
        head=cross_entropy_head(jax.tree_util.Partial(logits_of, params)),
        norm_params=params["normalization"],
        features=np.asarray(features),
        labels=test.labels,
        data=test.name,
        accuracy=float(accuracy),
    )


def batches(data: TrainedNetwork, rows: int, kind: str, count: int, seed: int) -> list[np.ndarray]:
    """Return the indices of `count` batches: `single_class` (batch k holds class k mod 10) or `mixed`."""
    generator = np.random.default_rng(seed)
    pools = [np.flatnonzero(data.labels == k % 10) if kind == "single_class" else None for k in range(count)]
    pools = [np.arange(len(data.labels)) if pool is None else pool for pool in pools]
    smallest = min(len(pool) for pool in pools)
    if rows > smallest:
        raise ValueError(f"--rows needs to be at most {smallest} for {kind} batches from {data.data}, got {rows}")
    return [generator.choice(pool, rows, replace=False) for pool in pools]
