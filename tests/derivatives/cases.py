"""Heads and problems that the claims are tested on, and what the dense reference says about them.

The heads stand at module level and the references are kept, so that what is compiled for one test serves all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bnjax import cross_entropy_head
from bnjax.derivatives import Terms, terms
from bnjax.derivatives.reference import ReferenceTerm, reference_terms
from bnjax.normalizers import Normalizer, batch_norm, layer_norm, noisy_batch_norm
from bnjax.problem import Problem, pose

ROWS, MAPS, CHANNELS_FIRST = (6, 4), (6, 2, 2, 4), (6, 4, 2, 2)
_DRAWN = np.random.default_rng(0)
FIRST = jnp.asarray(0.5 * _DRAWN.normal(size=(16, 5)))
SECOND = jnp.asarray(_DRAWN.normal(size=(5, 3)))
OFFSET = jnp.asarray(0.3 * _DRAWN.normal(size=5))


def hidden(row: Array) -> Array:
    flat = row.ravel()
    return flat @ FIRST[: flat.size] + OFFSET


def relu_logits(row: Array) -> Array:
    return jax.nn.relu(hidden(row)) @ SECOND


def tanh_head(row: Array, label: Array) -> Array:
    return -jax.nn.log_softmax(jnp.tanh(hidden(row)) @ SECOND)[label]


def polynomial_head(row: Array, label: Array) -> Array:
    """Return a polynomial of degree 4."""
    a, b = hidden(row)[:2]
    return 0.3 * (1 + label) * a + a * b + 0.5 * label * b**3 + 0.25 * (a - b) ** 4


relu_head = cross_entropy_head(relu_logits)
HEADS: dict[str, Callable[..., Array]] = {"relu": relu_head, "tanh": tanh_head, "polynomial": polynomial_head}


def features(shape: tuple[int, ...], *, seed: int = 0) -> Array:
    """Draw features of different means and deviations."""
    drawn = np.random.default_rng(seed).normal(size=shape)
    scales = np.linspace(0.5, 2.0, shape[-1])
    return jnp.asarray(scales * drawn + 3 * scales - 4)


def labels(rows: int, *, seed: int = 0) -> Array:
    return jnp.asarray(np.random.default_rng(seed).permutation(rows) % 3)


@dataclass(frozen=True)
class Case:
    """A problem as the public calls take it."""

    head: str
    normalizer: Normalizer
    shape: tuple[int, ...]
    expansion_point: float | tuple[float, ...] = 0.0

    @property
    def loss(self) -> Callable[..., Array]:
        return HEADS[self.head]

    @property
    def data(self) -> tuple[Array, Array]:
        return features(self.shape), labels(self.shape[0])

    @property
    def options(self) -> dict:
        x = self.data[0]
        params, stats = self.normalizer.init(x)
        bumps = 0.25 * np.cos(np.arange(x.shape[self.normalizer.feature_axis]))
        params = {name: jnp.asarray(value + bumps) for name, value in jax.device_get(params).items()}
        point = jnp.asarray(self.expansion_point)
        return {"params": params, "stats": stats, "key": jax.random.key(3), "expansion_point": point}

    @property
    def problem(self) -> Problem:
        return pose(self.loss, self.normalizer, *self.data, **self.options)

    def standardization(self, x: Array) -> Array:
        options = self.options
        return self.normalizer.standardize(options["stats"], x, mode="batch", key=options["key"])[0].values


CASES = {
    "tanh_rows_off_center": Case("tanh", layer_norm(), (3, 4), (0.3, -0.2, 0.5, 0.1)),
    "noise_by_row": Case("relu", noisy_batch_norm(), (3, 3), -0.4),
    "relu_maps": Case("relu", batch_norm(), (3, 2, 2, 2)),
    "channels_first": Case("polynomial", batch_norm(epsilon=0.0, feature_axis=1), (3, 2, 3), 0.2),
}
# The programs here are large and run once.
compiled_fast = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@cache
def reference(name: str) -> dict[tuple[str, str], ReferenceTerm]:
    """Return what the definitions say, densely, about the case of this name."""
    case = CASES[name]
    (batch, row_labels), options = case.data, case.options
    axis = case.normalizer.feature_axis % batch.ndim - batch.ndim

    def terms_at(x: Array) -> dict[tuple[str, str], ReferenceTerm]:
        slope, offset = case.normalizer.affine(options["params"], x, mode="batch", key=options["key"])
        slope, offset = jnp.broadcast_to(slope, x.shape), jnp.broadcast_to(offset, x.shape)
        heads = [lambda row, i=i: case.loss(slope[i] * row + offset[i], row_labels[i]) for i in range(len(x))]
        center = jnp.broadcast_to(options["expansion_point"], x.shape[1:])
        return reference_terms(heads, case.standardization, x, center, feature_axis=axis)

    return jax.device_get(compiled_fast(terms_at)(batch))


compiled_terms = compiled_fast(terms, static_argnames=("feature_axis", "chunk", "row_chunk"))


@cache
def sorted_terms(name: str, row_chunk: int | None = None) -> Terms:
    """Return what `terms` says about the case of this name."""

    def of(problem: Problem) -> Terms:
        heads, standardized = problem.row_heads(), problem.standardization(problem.x)
        return terms(heads, problem.center, standardized, feature_axis=problem.feature_axis, row_chunk=row_chunk)

    return jax.device_get(compiled_fast(of)(CASES[name].problem))
