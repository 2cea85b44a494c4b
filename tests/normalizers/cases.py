"""The normalizers that shared claims are tested on, by readable ids, and features to feed them."""

import math
from collections.abc import Callable
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike

from bnjax.normalizers import (
    Normalizer,
    batch_norm,
    batch_renorm,
    detached_batch_norm,
    frozen_batch_norm,
    ghost_batch_norm,
    group_norm,
    identity,
    instance_norm,
    layer_norm,
    lp_norm,
    noisy_batch_norm,
    post_shifted_batch_norm,
    rms_norm,
)
from bnjax.theorems.blocked_spaces import (
    Groups,
    by_feature,
    by_ghost_and_feature,
    by_row_and_feature,
    by_row_and_feature_group,
    by_row_and_position,
)

Factory = Callable[..., Normalizer]

# Statistics over the batch, kept from call to call.
OVER_BATCH: dict[str, Factory] = {
    "batch": batch_norm,
    "detached": detached_batch_norm,
    "ghost": partial(ghost_batch_norm, ghost_size=3),
    "l1": partial(lp_norm, p=1),
    "l2": partial(lp_norm, p=2),
    "linf": partial(lp_norm, p=math.inf),
    "noisy": noisy_batch_norm,
    "post_shifted": post_shifted_batch_norm,
    "renorm": batch_renorm,
}
# Statistics of each row by itself, nothing kept.
OVER_ROW: dict[str, Factory] = {
    "group": partial(group_norm, groups=2),
    "instance": instance_norm,
    "layer": layer_norm,
    "rms": rms_norm,
}
# Which entries share statistics.
GROUPS: dict[str, Groups] = {
    **dict.fromkeys(OVER_BATCH, by_feature),
    "ghost": by_ghost_and_feature(3),
    "group": by_row_and_feature_group(2),
    "instance": by_row_and_feature,
    "layer": by_row_and_position,
    "rms": by_row_and_position,
}
# Those that subtract no mean: a shift is seen, and a group that is constant has a spread unless it is zero.
UNCENTRED = {"rms"}
WITH_EPSILON: dict[str, Factory] = {**OVER_BATCH, **OVER_ROW, "frozen": frozen_batch_norm}
NORMALIZERS: dict[str, Factory] = {**WITH_EPSILON, "identity": identity}

ROWS, MAPS = (6, 4), (6, 3, 2, 4)
KEY = jax.random.key(7, impl="unsafe_rbg")  # Compiles in a fraction of the time that the default takes.


def features(shape: tuple[int, ...] = MAPS, *, seed: int = 0, dtype=jnp.float64) -> Array:
    """Draw features with another mean and deviation on each entry of the last axis."""
    drawn, last = np.random.default_rng(seed).normal(size=shape), np.arange(shape[-1])
    return jnp.asarray((1 + 0.5 * last) * drawn + last - 1.3, dtype)


def drawn_like(state: dict[str, Array], *, seed: int = 1) -> dict[str, Array]:
    """Draw positive numbers in place of a normalizer's parameters or statistics."""
    generator = np.random.default_rng(seed)
    return {
        name: jnp.asarray(generator.uniform(0.5, 2.0, vector.shape), vector.dtype) for name, vector in state.items()
    }


def outputs(normalizer: Normalizer, x: ArrayLike, **options) -> Array:
    """Return the outputs from initial parameters and statistics; noise from `KEY`."""
    return normalizer.apply(*normalizer.init(x), x, key=KEY, **options)[0]


@partial(jax.jit, static_argnums=0, static_argnames="mode")
def compiled(normalizer: Normalizer, params, stats, x: Array, *, mode="batch"):
    """Call `normalizer.apply`, compiled."""
    return normalizer.apply(params, stats, x, mode=mode, key=KEY)


def flax_outputs(module: nn.Module, params: dict[str, Array], x: Array) -> Array:
    """Return the outputs of flax's own module without statistics."""
    return cast(Array, jax.jit(module.apply)({"params": params}, x))
