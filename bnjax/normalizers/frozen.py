"""Frozen batch normalization: constant statistics, whatever the batch."""

from jaxtyping import Array

from bnjax.normalizers.batch import batch_axes, check_batch, running_moments
from bnjax.normalizers.moments import moments
from bnjax.normalizers.normalizer import (
    Mode,
    Normalizer,
    Standardized,
    Stats,
    build_normalizer,
    divide_by_deviation,
    learned_affine,
    memoized,
)


@memoized
def frozen_batch_norm(*, epsilon: float = 1e-5, affine: bool = True, feature_axis: int = -1) -> Normalizer:
    """Return batch normalization by the statistics it is given, in both modes, never updated.

    `init(x)` freezes the moments of `x`; pass other `stats` (`mean`, `variance`) for those of a trained network.
    It blocks nothing (docs/theory.md, T5). Arguments as in `batch_norm`.
    """

    def frozen_stats(x: Array) -> Stats:
        first = moments(x, batch_axes(x, feature_axis))
        return {"mean": first.mean.ravel(), "variance": first.variance.ravel()}

    def standardize(stats: Stats, x: Array, /, *, mode: Mode, key: Array | None) -> tuple[Standardized, Stats]:
        del mode, key
        return divide_by_deviation(x, running_moments(stats, x, feature_axis), epsilon), stats

    return build_normalizer(
        "frozen_batch_norm",
        standardize,
        feature_axis=feature_axis,
        epsilon=epsilon,
        affine=learned_affine(feature_axis=feature_axis, learned=affine),
        initial_stats=frozen_stats,
        check=lambda x: check_batch(x, feature_axis, "frozen_batch_norm"),
    )
