"""Instance normalization: each feature of each row by its own moments (Ulyanov et al., arXiv 1607.08022)."""

import math

from jaxtyping import Array

from bnjax.normalizers.checks import check_group_size
from bnjax.normalizers.moments import batch_axes, moments
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
def instance_norm(*, epsilon: float = 1e-5, affine: bool = True, feature_axis: int = -1) -> Normalizer:
    """Return `ŷ = (x - μ) / √(σ² + epsilon)`, moments over the positions of one feature of one row.

    It needs positions, `x` of shape (rows, ..., features). No statistics, equal in both modes. Arguments as in
    `layer_norm`.
    """

    def standardize(x: Array) -> Standardized:
        positions = batch_axes(x, feature_axis)[1:]
        return divide_by_deviation(x, moments(x, positions), epsilon)

    def check(x: Array) -> None:
        positions = math.prod(x.shape[axis] for axis in batch_axes(x, feature_axis)[1:])
        check_group_size(
            positions,
            "row and feature (its positions)",
            "instance_norm",
            remedy="pass x of shape (rows, positions, ..., features), or use batch_norm or layer_norm",
        )

    return build_normalizer(
        "instance_norm",
        without_statistics(standardize),
        feature_axis=feature_axis,
        epsilon=epsilon,
        affine=learned_affine(feature_axis=feature_axis, learned=affine),
        check=check,
    )
