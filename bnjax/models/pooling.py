"""How are images halved? By the maxima over 2×2 positions, as often as their size allows."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def max_pool(x: Float[Array, "n h w channels"]) -> Float[Array, "n h_half w_half channels"]:
    """Return the maxima over 2×2 positions, in steps of 2; an odd last row or column is left out.

    As maxima of two arrays, first over rows, then over columns: XLA's `reduce_window` takes five times as long with its
    gradient on a CPU (docs/performance.md). Where several positions tie, the gradient is shared among them.
    """
    for axis in (1, 2):
        halves = x.shape[axis] // 2
        pairs = jnp.split(x, [2 * halves], axis)[0].reshape(*x.shape[:axis], halves, 2, *x.shape[axis + 1 :])
        x = jnp.maximum(pairs.take(0, axis + 1), pairs.take(1, axis + 1))
    return x


def check_size(images: Float[Array, "n h w channels"], least: int, name: str, *, usual: int) -> None:
    """Raise ValueError unless images are large enough for a position to be left when a network has halved them.

    Args:
        images: what the network is given.
        least: the smallest height and width of which a position is left.
        name: the network.
        usual: the size to take instead.
    """
    if min(images.shape[1:3]) < least:
        raise ValueError(
            f"{name} needs images of at least {least}×{least}, got {images.shape}; resize them (`.resized({usual})`)"
        )
