"""Post-shifted batch normalization: a constant shift keeps decayed filters alive (arXiv 2001.11216)."""

import math

from bnjax.normalizers.batch import batch_variant
from bnjax.normalizers.normalizer import Normalizer, learned_affine, memoized


@memoized
def post_shifted_batch_norm(
    *,
    shift: float = 0.1,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    affine: bool = True,
    feature_axis: int = -1,
) -> Normalizer:
    """Return `psBN(x) = scale · ŷ + bias + shift`, with a `shift` that is not learned.

    The functions it can represent are those of `batch_norm` (docs/theory.md, F3). Where weight decay pulls `scale`
    and `bias` to zero, its output tends to `shift`, where a ReLU passes the gradient.

    Args:
        shift: the constant α, positive in the paper; 0.1 in public implementations.
        epsilon, momentum, affine, feature_axis: as in `batch_norm`.

    Raises:
        ValueError: a shift that is not finite.
    """
    if not math.isfinite(shift):
        raise ValueError(f"post_shifted_batch_norm needs a finite shift, got {shift}")
    return batch_variant(
        "post_shifted_batch_norm",
        epsilon=epsilon,
        momentum=momentum,
        affine=learned_affine(feature_axis=feature_axis, learned=affine, shift=shift),
        feature_axis=feature_axis,
    )
