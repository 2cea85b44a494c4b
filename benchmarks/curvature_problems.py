"""What is differentiated in `benchmarks.curvature`, and how do this library and plain JAX do it?

Every problem is a few numbers, from which each process draws the same arrays. Results are read as numpy arrays in
PyTorch's order and layout, so that those of all implementations compare.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.tree_util import Partial

import bnjax
from bnjax.compilation import jit_once
from bnjax.curvature import batch_loss, hessian_vector_product, linearized_gradient
from bnjax.derivatives import TERMS, hessian_at
from bnjax.models import MLP, VGGA, ResNet
from bnjax.models.recording import entering
from bnjax.models.rest import Application
from bnjax.normalizers import batch_norm
from bnjax.normalizers.normalizer import Mode

Arrays = list[np.ndarray]
CLASSES = 10
# By name the model of some width, and the shape of its images.
NETWORKS: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...]]] = {
    "MLP": (lambda width: MLP((8 * width, 8 * width), norm=batch_norm()), (8, 8, 1)),
    "VGG-A": (lambda width: VGGA(width=width, norm=batch_norm()), (32, 32, 3)),
    "ResNet-18": (lambda width: ResNet(width=width, norm=batch_norm()), (32, 32, 3)),
}


class Implementation(NamedTuple):
    """One implementation of a problem: what is timed, and what it found.

    Attributes:
        call: computes; it returns when all is computed.
        read: of what `call` returns, the arrays that all implementations compare.
    """

    call: Callable[[], Any]
    read: Callable[[Any], Arrays]


class Head(NamedTuple):
    """Rows behind a linear layer: the head ReLU · Linear(D→width) · ReLU · Linear(width→10) · cross-entropy (a sum).

    Attributes:
        features: D.
        rows: n.
        width: of the hidden layer.
        seed: of arrays and weights.
    """

    features: int
    rows: int
    width: int
    seed: int

    def weights(self) -> dict[str, np.ndarray]:
        """Return the weights, `before` and `shift` those of the layer that the rows leave."""
        return {
            "before": self._normal(0, self.features, CLASSES),
            "shift": self._normal(1, self.features),
            "first": self._normal(2, self.width, self.features) / np.float32(self.features**0.5),
            "bias": self._normal(3, self.width),
            "second": self._normal(4, CLASSES, self.width) / np.float32(self.width**0.5),
        }

    def inputs(self) -> np.ndarray:
        """Return what enters the layer before the head, of shape (n, 10)."""
        return self._normal(5, self.rows, CLASSES)

    def points(self) -> np.ndarray:
        """Return what enters the head, of shape (n, D)."""
        weights = self.weights()
        return self.inputs() @ weights["before"].T + weights["shift"]

    def directions(self) -> np.ndarray:
        """Return a direction for every row, of shape (n, D)."""
        return self._normal(6, self.rows, self.features)

    def labels(self) -> np.ndarray:
        """Return the labels, of shape (n,)."""
        return np.random.default_rng((self.seed, 7)).integers(0, CLASSES, self.rows)

    def _normal(self, number: int, *shape: int) -> np.ndarray:
        return np.random.default_rng((self.seed, number)).standard_normal(shape).astype(np.float32)


class Network(NamedTuple):
    """The mean loss of a network on random images, as a function of its parameters.

    Attributes:
        name: one of `NETWORKS`.
        width: of its first stage.
        mode: its statistics, the batch's own ("batch") or the running ones.
        rows: of the batch.
        columns: with how many vectors the Hessian is multiplied at once.
        seed: of arrays and weights.
    """

    name: str
    width: int
    mode: Mode
    rows: int
    columns: int
    seed: int

    def model(self) -> nn.Module:
        """Return the model."""
        return NETWORKS[self.name][0](self.width)

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Return images and labels."""
        generator = np.random.default_rng(self.seed)
        images = generator.uniform(size=(self.rows, *NETWORKS[self.name][1])).astype(np.float32)
        return images, generator.integers(0, CLASSES, self.rows).astype(np.int32)

    def variables(self) -> dict[str, Any]:
        """Return new parameters, and running statistics that have seen the batch once."""
        return _variables(self._replace(mode="batch", columns=1))

    def directions(self, params: Any) -> Any:
        """Return the vectors, stacked, as a tree like the parameters."""
        keys = jax.random.split(jax.random.key(self.seed + 1), self.columns)
        return jit_once(jax.vmap(lambda key: optax.tree.random_like(key, params)))(keys)


class Inside(NamedTuple):
    """The four terms at one normalizer of a network, their gradients at its input, all other statistics held.

    Attributes:
        name: of the network.
        number: which normalizer, counted from 0.
        width: of the network's first stage.
        rows: of the batch.
        seed: of arrays and weights.
    """

    name: str
    number: int
    width: int
    rows: int
    seed: int

    def network(self) -> Network:
        """Return the network around it."""
        return Network(self.name, self.width, "running", self.rows, 1, self.seed)

    def center(self, row: tuple[int, ...]) -> np.ndarray:
        """Return the expansion point in the shape of a row, features last.

        It is random: at a point that all positions share every maximum of the pooling is a tie.
        """
        return np.random.default_rng(self.seed + 1).standard_normal(row).astype(np.float32)


def head_diagonals(problem: Head) -> Implementation:
    """Take each row's diagonal of the Hessian at the input of the head."""
    head, points, labels = _head(problem)
    of_rows = jax.jit(jax.vmap(lambda head, point, label: hessian_at(head, point, label).diagonal(), (None, 0, 0)))
    return Implementation(lambda: jax.block_until_ready(of_rows(head, points, labels)), lambda found: [found])


def dense_head_diagonals(problem: Head) -> Implementation:
    """Take the same diagonal out of each row's whole Hessian, as plain JAX forms it."""
    head, points, labels = _head(problem)
    of_rows = jax.jit(jax.vmap(lambda head, point, label: jnp.diag(jax.hessian(head)(point, label)), (None, 0, 0)))
    return Implementation(lambda: jax.block_until_ready(of_rows(head, points, labels)), lambda found: [found])


def head_products(problem: Head) -> Implementation:
    """Take each row's product of the Hessian at the input of the head with a vector."""
    head, points, labels = _head(problem)
    directions = jnp.asarray(problem.directions())

    @jax.jit
    def of_rows(head: Any, points: Any, labels: Any, directions: Any) -> Any:
        return hessian_vector_product(lambda rows: jnp.sum(jax.vmap(head)(rows, labels)), points, directions)

    return Implementation(
        lambda: jax.block_until_ready(of_rows(head, points, labels, directions)), lambda found: [found]
    )


def network_products(problem: Network) -> Implementation:
    """Take products of the Hessian over all parameters with vectors, at one point."""
    model, (images, labels), variables = problem.model(), problem.batch(), problem.variables()
    loss = batch_loss(model, variables["batch_stats"], jnp.asarray(images), jnp.asarray(labels), mode=problem.mode)
    params = variables["params"]
    directions = problem.directions(params)

    @jax.jit
    def products(params: Any, directions: Any) -> Any:
        if problem.columns == 1:
            first = jax.tree.map(lambda leaf: leaf[0], directions)
            return jax.tree.map(lambda leaf: leaf[None], hessian_vector_product(loss, params, first))
        return jax.vmap(linearized_gradient(loss, params).hessian_product)(directions)

    def read(found: Any) -> Arrays:
        from benchmarks.pytorch_weights import arrays_in_order, paths_in_order

        paths = paths_in_order(model, variables, images)
        columns = [jax.tree.map(lambda leaf, at=at: leaf[at], found) for at in range(problem.columns)]
        return [array for column in columns for array in arrays_in_order(column, paths)]

    return Implementation(lambda: jax.block_until_ready(products(params, directions)), read)


def inside(problem: Inside) -> Implementation:
    """Take the gradients of the four terms at the normalizer's input."""
    network = problem.network()
    model, (images, labels), variables = network.model(), network.batch(), network.variables()
    layer = f"Normalization_{problem.number}"
    features = jax.eval_shape(partial(entering, Application(model, layer, ())), variables, (images,), None)
    arrays = [jnp.asarray(array) for array in (images, labels, problem.center(features.shape[1:]))]

    def call() -> Any:
        inputs, labels, center = arrays
        loss = optax.softmax_cross_entropy_with_integer_labels
        report = bnjax.audit(model, variables, inputs, labels, loss=loss, layer=layer, expansion_point=center)
        return jax.block_until_ready(report)

    def read(report: Any) -> Arrays:
        return [np.moveaxis(np.asarray(report.terms[term].input_gradient), -1, 1) for term in TERMS]

    return Implementation(call, read)


@cache
def _variables(problem: Network) -> dict[str, Any]:
    model, (images, _) = problem.model(), problem.batch()

    def drawn(key: Any, images: Any) -> dict[str, Any]:
        variables = model.init(key, images)
        return {**variables, **model.apply(variables, images, mutable=["batch_stats"])[1]}

    return jit_once(drawn)(jax.random.key(problem.seed), jnp.asarray(images))


def _head(problem: Head) -> tuple[Any, Any, Any]:
    weights = jax.tree.map(jnp.asarray, problem.weights())
    return (
        bnjax.cross_entropy_head(Partial(_logits, weights)),
        jnp.asarray(problem.points()),
        jnp.asarray(problem.labels()),
    )


def _logits(weights: dict[str, Any], row: Any) -> Any:
    hidden = jax.nn.relu(weights["first"] @ jax.nn.relu(row) + weights["bias"])
    return weights["second"] @ hidden
