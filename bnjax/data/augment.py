"""How are training images varied? Random crops and flips, as keyed functions to be compiled with the training step."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Images = Float[Array, "n h w channels"]


def random_crop(key: Array, images: Images, *, padding: int = 4) -> Images:
    """Return each image shifted by up to `padding` pixels in both directions, drawn from `key`; zeros where it ends.

    Every shift of a row is as likely as any other, and independent of that of the other rows.
    """
    n, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    corners = jax.random.randint(key, (n, 2), 0, 2 * padding + 1)

    def crop(image: Array, corner: Array) -> Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))

    return jax.vmap(crop)(padded, corners)


def random_flip(key: Array, images: Images) -> Images:
    """Return each image mirrored left to right with probability one half, drawn from `key`."""
    flipped = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)
