"""Group normalization: groups of a row's features by their own moments (Wu & He, arXiv 1803.08494)."""

import math

import jax.numpy as jnp
from jaxtyping import Array

from bnjax.integers import is_integer
from bnjax.normalizers.checks import check_group_size
from bnjax.normalizers.moments import moments
from bnjax.normalizers.normalizer import (
    Normalizer,
    Standardized,
    build_normalizer,
    divide_by_deviation,
    learned_affine,
    memoized,
    without_statistics,
)


@memoized
def group_norm(*, groups: int, epsilon: float = 1e-5, affine: bool = True, feature_axis: int = -1) -> Normalizer:
    """Return `ŷ = (x - μ) / √(σ² + epsilon)`, moments over all positions of a group of one row's features.

    No statistics, equal in both modes.

    Args:
        groups: into how many groups of neighbours the features are divided; `groups=1` normalizes the whole row.
        epsilon: added to the variance, ≥ 0.
        affine: whether there are a learned `scale` and `bias`, one each a feature.
        feature_axis: the axis of the features.

    Raises:
        TypeError: `groups` is no integer.
        ValueError: `groups` < 1; on use, features that `groups` does not divide.
    """
    if not is_integer(groups):
        raise TypeError(f"group_norm needs an integer number of groups, got {groups!r}")
    if groups < 1:
        raise ValueError(f"group_norm needs groups >= 1, got {groups}")

    def in_groups(x: Array) -> Array:
        """Return `x` as (rows, positions, groups, features of a group)."""
        return jnp.moveaxis(x, feature_axis, -1).reshape(x.shape[0], -1, groups, x.shape[feature_axis] // groups)

    def in_shape(grouped: Array, x: Array) -> Array:
        features_last = jnp.moveaxis(x, feature_axis, -1).shape
        return jnp.moveaxis(grouped.reshape(features_last), -1, feature_axis)

    def standardize(x: Array) -> Standardized:
        grouped = in_groups(x)
        values, scale = divide_by_deviation(grouped, moments(grouped, (1, 3)), epsilon)
        scale = jnp.broadcast_to(scale, grouped.shape)
        return Standardized(in_shape(values, x), in_shape(scale, x))

    def check(x: Array) -> None:
        features = x.shape[feature_axis]
        if features % groups:
            raise ValueError(
                f"group_norm needs a number of features that groups={groups} divides, got {features}; choose another "
                "number of groups"
            )
        group_size = math.prod(x.shape[1:]) // groups
        check_group_size(group_size, "row and group of features", "group_norm", remedy="use fewer groups")

    return build_normalizer(
        "group_norm",
        without_statistics(standardize),
        feature_axis=feature_axis,
        epsilon=epsilon,
        affine=learned_affine(feature_axis=feature_axis, learned=affine),
        check=check,
    )
