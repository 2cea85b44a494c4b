"""Which half of an image does a coupling keep, and which does it transform? A checkerboard's colours, or channels."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

Images = Float[Array, "n h w channels"]
Half = Float[Array, "n h half_width half_channels"]


class Checkerboard(NamedTuple):
    """The pixels of one colour of a checkerboard; a half has the images' height and half of their width.

    Attributes:
        odd: whether the kept half lacks the first pixel of the first row.
    """

    odd: bool | Array

    def split(self, x: Images) -> tuple[Half, Half]:
        """Return the kept and the other half."""
        pairs = x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3])
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        swapped = self._swapped(x.shape[1])
        return jnp.where(swapped, second, first), jnp.where(swapped, first, second)

    def merge(self, kept: Half, other: Half) -> Images:
        """Return the images of which these are the halves."""
        n, height, half_width, channels = kept.shape
        swapped = self._swapped(height)
        pairs = [jnp.where(swapped, other, kept), jnp.where(swapped, kept, other)]
        return jnp.stack(pairs, axis=3).reshape(n, height, 2 * half_width, channels)

    def context(self, kept: Half) -> Images:
        """Return the kept half as images, zero elsewhere."""
        return self.merge(kept, jnp.zeros_like(kept))

    def mask(self, kept: Half) -> Images:
        """Return one channel, 1 where a pixel is kept and 0 elsewhere."""
        one = jnp.ones_like(kept[..., :1])
        return self.merge(one, jnp.zeros_like(one))

    def transformed_part(self, of_context: Images) -> Half:
        """Return what a network made of the context at the places of the other half."""
        return self.split(of_context)[1]

    @staticmethod
    def context_channels(channels: int) -> int:
        """Return how many channels the context of images has."""
        return channels

    def _swapped(self, height: int) -> Array:
        return ((jnp.arange(height) + self.odd) % 2 == 1)[:, None, None]


class Channels(NamedTuple):
    """The first or the last half of the channels.

    Attributes:
        odd: whether the kept half is the last.
    """

    odd: bool | Array

    def split(self, x: Images) -> tuple[Half, Half]:
        """Return the kept and the other half."""
        first, last = jnp.split(x, 2, axis=-1)
        return jnp.where(self.odd, last, first), jnp.where(self.odd, first, last)

    def merge(self, kept: Half, other: Half) -> Images:
        """Return the images of which these are the halves."""
        return jnp.concatenate([jnp.where(self.odd, other, kept), jnp.where(self.odd, kept, other)], axis=-1)

    def context(self, kept: Half) -> Images:
        """Return the kept half, as it is."""
        return kept

    def mask(self, kept: Half) -> Images:
        """Return no channel: every place of the context is kept."""
        return kept[..., :0]

    def transformed_part(self, of_context: Images) -> Half:
        """Return what a network made of the context: all of it belongs to the other half."""
        return of_context

    @staticmethod
    def context_channels(channels: int) -> int:
        """Return how many channels the context of images has."""
        return channels // 2


Partition = Checkerboard | Channels
