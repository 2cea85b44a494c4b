"""Detached batch normalization: the batch's statistics forward, no gradient through them backward."""

import jax

from bnjax.normalizers.batch import batch_variant
from bnjax.normalizers.normalizer import Normalizer, learned_affine, memoized


@memoized
def detached_batch_norm(
    *, epsilon: float = 1e-5, momentum: float = 0.9, affine: bool = True, feature_axis: int = -1
) -> Normalizer:
    """Return batch normalization whose `μ` and `σ²` count as constants in every derivative.

    Its values are those of `batch_norm`, its derivative is `1/s`: it blocks nothing (docs/theory.md, T5). The
    early baseline of arXiv 2205.15146. Arguments as in `batch_norm`.
    """
    return batch_variant(
        "detached_batch_norm",
        epsilon=epsilon,
        momentum=momentum,
        affine=learned_affine(feature_axis=feature_axis, learned=affine),
        feature_axis=feature_axis,
        backward=jax.lax.stop_gradient,
    )
