"""RealNVP on two scales (Dinh et al., arXiv 1605.08803): an invertible network that gives images a likelihood."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from bnjax.models.flow.coupling import Coupling
from bnjax.models.flow.partition import Channels, Checkerboard
from bnjax.models.flow.pixels import Images, Transformed, logit, pixels_of, squeezed, unsqueezed
from bnjax.models.flow.residual_network import stacked
from bnjax.normalizers import Normalizer, batch_norm
from bnjax.normalizers.normalizer import Mode

# Squeezed, the places of a 2×2 square are in the order (0, 0), (0, 1), (1, 0), (1, 1): first those of one colour.
BY_COLOUR = (0, 3, 1, 2)


class Latents(NamedTuple):
    """What the flow makes of images; standard normal under the model.

    Attributes:
        factored: the half that leaves after the first scale.
        last: the half that goes through both.
    """

    factored: Float[Array, "n half_height half_width features"]
    last: Float[Array, "n half_height half_width features"]


class RealNVP(nn.Module):
    """Logit → 3 checkerboard couplings → squeeze → 3 channel couplings → half factored out → 4 checkerboard couplings.

    Attributes:
        channels: of the images.
        width: channels inside the couplings' networks, at both scales.
        blocks: residual blocks of each.
        norm: the normalizer inside the networks; for layer normalization of images `group_norm(groups=1)`, since
            `layer_norm` has only the channels of one position, here as few as one.
        flow_norm: the normalizer inside the flow, after every coupling; one with running statistics.
        whole_batch: whether the flow's normalizer takes one mean and one scale over the whole batch, as the authors of
            arXiv 2205.15146 do in place of layer normalization, which could not be inverted.
    """

    channels: int = 1
    width: int = 64
    blocks: int = 8
    norm: Normalizer = batch_norm()
    flow_norm: Normalizer = batch_norm()
    whole_batch: bool = False

    def setup(self) -> None:
        """Build the couplings."""
        coupling = partial(
            Coupling,
            width=self.width,
            blocks=self.blocks,
            norm=self.norm,
            flow_norm=self.flow_norm,
            whole_batch=self.whole_batch,
        )
        # Each is applied several times in a loop, with stacked parameters: it is compiled once.
        self.checkerboard = coupling(Checkerboard, self.channels)
        self.channelwise = coupling(Channels, 4 * self.channels)
        self.last_checkerboard = coupling(Checkerboard, 2 * self.channels)

    def __call__(self, images: Images, *, mode: Mode = "batch") -> Float[Array, " n"]:
        """Return the log-likelihood of every image (natural logarithm of a density on [0, 1] per pixel).

        A pixel outside of [0, 1] by more than a little has none: NaN.

        Raises:
            ValueError: images whose height or width is no multiple of 4, or of other channels than the model's.
        """
        latents, log_determinant = self.encode(images, mode=mode)
        return log_determinant + sum(jnp.sum(jax.scipy.stats.norm.logpdf(latent), axis=(1, 2, 3)) for latent in latents)

    def encode(self, images: Images, *, mode: Mode = "batch") -> tuple[Latents, Float[Array, " n"]]:
        """Return latents and log-determinant of every image; errors as in `__call__`."""
        self._check(images.shape)
        x, total = logit(images)
        x, log_determinant = _through(self.checkerboard, 3, x, mode)
        total += log_determinant
        x, log_determinant = _through(self.channelwise, 3, squeezed(x), mode)
        total += log_determinant
        last, factored = jnp.split(self._by_colour(x), 2, axis=-1)
        last, log_determinant = _through(self.last_checkerboard, 4, last, mode)
        return Latents(factored, last), total + log_determinant

    def decode(self, latents: Latents) -> Images:
        """Return the images of latents, by the running statistics: the inverse of `encode` in running mode."""
        last = _back_through(self.last_checkerboard, 4, latents.last)
        x = self._by_place(jnp.concatenate([last, latents.factored], axis=-1))
        x = unsqueezed(_back_through(self.channelwise, 3, x))
        return pixels_of(_back_through(self.checkerboard, 3, x))

    def sample(self, key: Array, count: int, size: tuple[int, int]) -> Images:
        """Return so many images of height and width `size`, drawn by the running statistics.

        Their pixels can lie a little outside of [0, 1]: the logit transform reaches that far.

        Raises:
            ValueError: a height or width that is no multiple of 4.
        """
        self._check((count, *size, self.channels))
        shape = (count, size[0] // 2, size[1] // 2, 2 * self.channels)
        return self.decode(Latents(*(jax.random.normal(key, shape) for key in jax.random.split(key))))

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 4 or shape[1] % 4 or shape[2] % 4 or shape[3] != self.channels:
            raise ValueError(
                f"RealNVP on two scales needs images (n, h, w, {self.channels}) with h and w multiples of 4, got "
                f"{shape}; crop or pad them"
            )

    def _by_colour(self, x: Float[Array, "n h w features"]) -> Float[Array, "n h w features"]:
        places = x.reshape(*x.shape[:3], 4, self.channels)
        return places[..., jnp.array(BY_COLOUR), :].reshape(x.shape)

    def _by_place(self, x: Float[Array, "n h w features"]) -> Float[Array, "n h w features"]:
        colours = x.reshape(*x.shape[:3], 4, self.channels)
        return colours[..., jnp.argsort(jnp.array(BY_COLOUR)), :].reshape(x.shape)


def _through(coupling: Coupling, count: int, x: Images, mode: Mode) -> Transformed:
    """Apply so many couplings, which keep the two halves in turn."""

    def step(coupling: Coupling, x: Images, odd: Array) -> Transformed:
        return coupling(x, odd, mode=mode)

    x, log_determinants = stacked(step)(coupling, x, _in_turn(count))
    return Transformed(x, jnp.sum(log_determinants, axis=0))


def _back_through(coupling: Coupling, count: int, y: Images) -> Images:
    def step(coupling: Coupling, y: Images, odd: Array) -> tuple[Images, None]:
        return coupling.inverse(y, odd), None

    return stacked(step, reverse=True)(coupling, y, _in_turn(count))[0]


def _in_turn(count: int) -> Bool[Array, " count"]:
    return jnp.arange(count) % 2 == 1
