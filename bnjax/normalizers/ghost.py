"""Ghost batch normalization: moments over parts of the batch (Hoffer et al., arXiv 1705.08741)."""

import jax.numpy as jnp
from jaxtyping import Array

from bnjax.integers import is_integer
from bnjax.normalizers.batch import check_batch, flat_stats, initial_stats, running_moments, updated_stats
from bnjax.normalizers.moments import Moments, batch_axes, moments
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
def ghost_batch_norm(
    *,
    ghost_size: int,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    affine: bool = True,
    feature_axis: int = -1,
) -> Normalizer:
    """Return batch normalization of each `ghost_size` consecutive rows by themselves.

    The running statistics are updated once a call, by the mean of the ghost batches' means and variances.

    Args:
        ghost_size: rows in a ghost batch; must divide the rows of `x`.
        epsilon, momentum, affine, feature_axis: as in `batch_norm`.

    Raises:
        TypeError: `ghost_size` is no integer.
        ValueError: `ghost_size` < 1; on use, rows that it does not divide.
    """
    if not is_integer(ghost_size):
        raise TypeError(f"ghost_batch_norm needs an integer ghost_size, got {ghost_size!r}")
    if ghost_size < 1:
        raise ValueError(f"ghost_batch_norm needs ghost_size >= 1, got {ghost_size}")

    def standardize(stats: Stats, x: Array, /, *, mode: Mode, key: Array | None) -> tuple[Standardized, Stats]:
        del key
        if mode == "running":
            return divide_by_deviation(x, running_moments(stats, x, feature_axis), epsilon), stats
        ghosts = x.reshape(-1, ghost_size, *x.shape[1:])
        axes = tuple(axis + 1 for axis in batch_axes(x, feature_axis))
        batch = moments(ghosts, axes)
        values, scale = divide_by_deviation(ghosts, batch, epsilon)
        mean_batch = Moments(jnp.mean(batch.mean, axis=0), jnp.mean(batch.variance, axis=0))
        standardized = Standardized(values.reshape(x.shape), jnp.broadcast_to(scale, ghosts.shape).reshape(x.shape))
        return standardized, updated_stats(stats, flat_stats(mean_batch), momentum)

    def check(x: Array) -> None:
        if x.shape[0] % ghost_size:
            raise ValueError(
                f"ghost_batch_norm needs a number of rows that ghost_size={ghost_size} divides, got {x.shape[0]}; drop "
                "the rows that are left over or choose another ghost_size"
            )
        check_batch(x[:ghost_size], feature_axis, "ghost_batch_norm")

    return build_normalizer(
        "ghost_batch_norm",
        standardize,
        feature_axis=feature_axis,
        epsilon=epsilon,
        affine=learned_affine(feature_axis=feature_axis, learned=affine),
        initial_stats=lambda x: initial_stats(x, feature_axis),
        check=check,
    )
