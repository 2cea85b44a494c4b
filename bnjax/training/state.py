"""What changes while a model is trained? One pytree of arrays, explicit in every step."""

import hashlib
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Int, UInt32

from bnjax.compilation import jit_once


class TrainState(NamedTuple):
    """Everything that a training step needs and changes; a pytree.

    Attributes:
        step: how many steps were taken.
        key: the data of the run's random key; with `step` it gives the keys of dropout, noise and augmentation.
        params: the model's parameters.
        stats: its batch statistics, `{}` where it has none.
        optimizer_state: the optimizer's state.
    """

    step: Int[Array, ""]
    key: UInt32[Array, "..."]
    params: Any
    stats: Any
    optimizer_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """Parameters and batch statistics, as `model.apply` takes them."""
        return {"params": self.params, "batch_stats": self.stats}


def digest(state: TrainState) -> str:
    """Return a short name of all numbers of a state and their places."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        found.update(jax.tree_util.keystr(path).encode())
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        found.update(np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes())
    return found.hexdigest()[:12]


@partial(jit_once, static_argnums=(0, 1))
def initial_state(model: nn.Module, optimizer: optax.GradientTransformation, key: Array, images: Array) -> TrainState:
    """Return the state before the first step.

    Args:
        model: a linen module with `__call__(images, *, mode)`; its `params` and `batch_stats` are kept.
        optimizer: any optax transformation.
        key: the random key of the run.
        images: a few images, for their shape.
    """
    init_key, run_key = jax.random.split(key)
    init: Any = model.init
    variables = init(init_key, images, mode="running")  # In batch mode some normalizers refuse so few rows.
    params, stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(jnp.int32(0), jax.random.key_data(run_key), params, stats, optimizer.init(params))
