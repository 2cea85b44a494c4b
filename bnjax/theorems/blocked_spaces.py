"""Statements on what the other normalizers block: N (docs/theory.md).

Every normalizer standardizes *groups* of entries. With the group's own `ŷ` and the direction `w` of its spread's
gradient, what gets back of an output gradient G is `S JᵀG = P G - P w (ŷᵀG)/m` (P only where the normalizer centres):
blocked are w and, where it centres, the constants.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from bnjax.normalizers.normalizer import Normalizer
from bnjax.theorems.standardization import columns, standardized
from bnjax.theorems.statement import Case, Comparison, rounding_bound

Groups = Callable[[tuple[int, ...]], Array]


class GroupReductions(NamedTuple):
    """Reductions over the groups of a flat array, each result repeated for every entry of its group."""

    mean: Callable[[Array], Array]
    max: Callable[[Array], Array]
    entries: Array


Spread = Callable[[Array, GroupReductions], tuple[Array, Array]]


class BlockedSpace(NamedTuple):
    """What a normalizer blocks.

    Attributes:
        groups: the shape of x ↦ the number of the group that each entry belongs to.
        centres: whether the group's mean is subtracted.
        spread: `(centred entries, reductions) -> (scale, w)`.
    """

    groups: Groups
    centres: bool
    spread: Spread


def blocked_space(normalizer: Normalizer, case: Case, *, space: BlockedSpace) -> Comparison:
    """N: `S JᵀG = P G - P w (ŷᵀG)/m` in every group."""
    group = _reductions(space.groups(case.x.shape).ravel())

    def centre(flat: Array) -> Array:
        return flat - group.mean(flat) if space.centres else flat

    x, cotangent = case.x.ravel(), case.cotangent.ravel()
    scale, direction = space.spread(centre(x), group)
    values = centre(x) / scale
    right = centre(cotangent) - centre(direction) * group.mean(values * cotangent)

    shifted, _ = standardized(normalizer, case)
    (left,) = jax.vjp(shifted, jnp.zeros_like(columns(case.x)))[1](columns(case.cotangent))
    largest = jnp.maximum(jnp.max(jnp.abs(values)), 1.0)
    size = largest * jnp.maximum(jnp.max(jnp.abs(direction)), 1.0)
    return Comparison(left.ravel(), right, size, rounding_bound(x, scale, case.x.size))


def everything_passes(normalizer: Normalizer, case: Case) -> Comparison:
    """N: a normalizer with constant statistics, or with none, blocks nothing: `S JᵀG = G`."""
    shifted, scale = standardized(normalizer, case)
    cotangent = columns(case.cotangent)
    (left,) = jax.vjp(shifted, jnp.zeros_like(cotangent))[1](cotangent)
    return Comparison(left, cotangent, jnp.max(jnp.abs(cotangent)), rounding_bound(columns(case.x), scale, len(left)))


def root_mean_square(centred: Array, group: GroupReductions) -> tuple[Array, Array]:
    """Return the scale of the ℓ2 norm and `w = ŷ`."""
    scale = jnp.sqrt(group.mean(centred**2))
    return scale, centred / scale


def mean_absolute(centred: Array, group: GroupReductions) -> tuple[Array, Array]:
    """Return the scale of the ℓ1 norm and `w = sign ŷ`."""
    return group.mean(jnp.abs(centred)), jnp.sign(centred)


def maximum_absolute(centred: Array, group: GroupReductions) -> tuple[Array, Array]:
    """Return the scale of the ℓ∞ norm and `w = m sign(ŷ_k) e_k` at the entry k that is farthest from the mean."""
    scale = group.max(jnp.abs(centred))
    return scale, group.entries * jnp.sign(centred) * (jnp.abs(centred) == scale)


def _reductions(labels: Array) -> GroupReductions:
    count = labels.size  # an upper bound of the number of groups, known without looking at the labels

    def total(flat: Array) -> Array:
        return jax.ops.segment_sum(flat, labels, num_segments=count)[labels]

    entries = total(jnp.ones(count))
    return GroupReductions(
        mean=lambda flat: total(flat) / entries.astype(flat.dtype),
        max=lambda flat: jax.ops.segment_max(flat, labels, num_segments=count)[labels],
        entries=entries,
    )


def by_feature(shape: tuple[int, ...]) -> Array:
    """Group the entries of one feature over the batch."""
    return jnp.broadcast_to(jnp.arange(shape[-1]), shape)


def by_row_and_position(shape: tuple[int, ...]) -> Array:
    """Group the features of one row at one position."""
    rows = jnp.arange(math.prod(shape[:-1])).reshape(*shape[:-1], 1)
    return jnp.broadcast_to(rows, shape)


def by_row_and_feature(shape: tuple[int, ...]) -> Array:
    """Group the positions of one feature of one row."""
    rows = jnp.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return jnp.broadcast_to(rows * shape[-1] + jnp.arange(shape[-1]), shape)


def by_row_and_feature_group(groups: int) -> Groups:
    """Group all positions of neighbouring features of one row."""

    def labels(shape: tuple[int, ...]) -> Array:
        rows = jnp.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
        return jnp.broadcast_to(rows * groups + jnp.arange(shape[-1]) // (shape[-1] // groups), shape)

    return labels


def by_ghost_and_feature(ghost_size: int) -> Groups:
    """Group the entries of one feature over a ghost batch."""

    def labels(shape: tuple[int, ...]) -> Array:
        ghosts = (jnp.arange(shape[0]) // ghost_size).reshape(-1, *[1] * (len(shape) - 1))
        return jnp.broadcast_to(ghosts * shape[-1] + jnp.arange(shape[-1]), shape)

    return labels
