"""Layer normalization: each row by its own moments over its features (Ba et al., arXiv 1607.06450)."""

from jaxtyping import Array

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
def layer_norm(*, epsilon: float = 1e-5, affine: bool = True, feature_axis: int = -1) -> Normalizer:
    """Return `ŷ = (x - μ) / √(σ² + epsilon)`, moments over the features of one row at one position.

    For moments over the whole sample of a convolution use `group_norm(groups=1)`. No statistics, equal in both modes.

    Args:
        epsilon: added to the variance, ≥ 0.
        affine: whether there are a learned `scale` and `bias`, one each a feature.
        feature_axis: the axis of the features.
    """

    def standardize(x: Array) -> Standardized:
        return divide_by_deviation(x, moments(x, (feature_axis,)), epsilon)

    return build_normalizer(
        "layer_norm",
        without_statistics(standardize),
        feature_axis=feature_axis,
        epsilon=epsilon,
        affine=learned_affine(feature_axis=feature_axis, learned=affine),
        check=lambda x: check_group_size(
            x.shape[feature_axis],
            "row and position",
            "layer_norm",
            remedy="it needs at least 2 features; group_norm(groups=1) takes an image whole",
        ),
    )
