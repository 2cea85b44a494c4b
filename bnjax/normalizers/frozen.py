"""Frozen batch normalization: constant statistics, whatever the batch."""

from jaxtyping import Array

from bnjax.normalizers.batch import batch_variant
from bnjax.normalizers.normalizer import (
    Mode,
    Normalizer,
    Standardized,
    Stats,
    build_normalizer,
    learned_affine,
    memoized,
)


@memoized
def frozen_batch_norm(*, epsilon: float = 1e-5, affine: bool = True, feature_axis: int = -1) -> Normalizer:
    """Return batch normalization by the statistics it is given, in both modes, never updated.

    `init(x)` freezes the moments of `x`, which therefore must be a batch that `batch_norm` takes; pass other `stats`
    (`mean`, `variance`) for those of a trained network. `apply` takes any rows, also a single one. It blocks nothing
    (docs/theory.md, T5). Arguments as in `batch_norm`.
    """
    learned = learned_affine(feature_axis=feature_axis, learned=affine)
    # With momentum 0 the updated statistics are the batch's.
    batch = batch_variant("frozen_batch_norm", epsilon=epsilon, momentum=0.0, affine=learned, feature_axis=feature_axis)

    def frozen_stats(x: Array) -> Stats:
        batch.check(x)
        _, stats = batch.init(x)
        return batch.standardize(stats, x, mode="batch", key=None)[1]

    def standardize(stats: Stats, x: Array, /, *, mode: Mode, key: Array | None) -> tuple[Standardized, Stats]:
        del mode
        return batch.standardize(stats, x, mode="running", key=key)

    return build_normalizer(
        "frozen_batch_norm",
        standardize,
        feature_axis=feature_axis,
        epsilon=epsilon,
        affine=learned,
        initial_stats=frozen_stats,
        uses_input=False,
    )
