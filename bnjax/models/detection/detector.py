"""A single-stage detector without anchors, after FCOS (arXiv 1904.01355), with one resolution of its output."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.boxes import boxes_around
from bnjax.models.convolution import Convolution
from bnjax.models.normalizer import Normalization
from bnjax.normalizers import Normalizer, identity
from bnjax.normalizers.normalizer import Mode

# Before any training an object is as likely as this at a position (arXiv 1708.02002): most positions have none.
PRIOR = 0.01


class Predictions(NamedTuple):
    """What a detector says at every position of its output, line by line.

    Attributes:
        logits: of each class for itself, whether an object of it is there.
        boxes: where its box is, (x0, y0, x1, y1) in pixels.
        centres: the positions, (x, y) in pixels.
    """

    logits: Float[Array, "n positions classes"]
    boxes: Float[Array, "n positions 4"]
    centres: Float[Array, "positions 2"]


class Detector(nn.Module):
    """3×3 convolutions that halve the images, two branches of them, and behind these the classes and the boxes.

    Each convolution but the last of a branch has no bias and is followed by normalizer → ReLU. A branch ends in the
    logits of the classes, to which the logit of `PRIOR` is added, or in the distances of the position from the four
    sides of its box, softplus(·) strides.

    Attributes:
        classes: number of classes.
        norm: the normalizer after every convolution but the last ones.
        width: channels of the first stage; they double with every halving.
        halvings: how often height and width are halved, each time by a convolution with stride 2 and one without.
        depth: convolutions before the branches, and in each of them.
    """

    classes: int = 10
    norm: Normalizer = identity()
    width: int = 16
    halvings: int = 2
    depth: int = 1

    @property
    def stride(self) -> int:
        """How many pixels lie between two positions."""
        return 2**self.halvings

    @nn.compact
    def __call__(self, images: Float[Array, "n h w channels"], *, mode: Mode = "batch") -> Predictions:
        """Return class logits and boxes at every position.

        Raises:
            ValueError: images whose height or width is no multiple of the stride.
        """
        height, width = images.shape[1:3]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"a detector of stride {self.stride} needs images of a height and width that it divides, got "
                f"{height}×{width}; choose another size"
            )

        def layers(x: Array, features: int, count: int, strides: int = 1) -> Array:
            for layer in range(count):
                convolution = Convolution(features, strides=strides if layer == 0 else 1, use_bias=False)
                x = nn.relu(Normalization(self.norm)(convolution(x), mode=mode))
            return x

        x, features = images, self.width
        for stage in range(self.halvings):
            features = self.width * 2**stage
            x = layers(x, features, 2, strides=2)
        x = layers(x, features, self.depth)
        logits = Convolution(self.classes)(layers(x, features, self.depth)) + math.log(PRIOR / (1 - PRIOR))
        distances = nn.softplus(Convolution(4)(layers(x, features, self.depth))) * self.stride
        logits, distances = (y.reshape(len(images), -1, y.shape[-1]) for y in (logits, distances))
        centres = position_centres(height // self.stride, width // self.stride, self.stride).astype(distances.dtype)
        return Predictions(logits, boxes_around(centres, distances), centres)


def position_centres(rows: int, columns: int, stride: int) -> Float[Array, "positions 2"]:
    """Return the centres (x, y), in pixels, of cells of `stride` pixels, line by line."""
    y, x = jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij")
    return (jnp.stack([x.ravel(), y.ravel()], axis=-1) + 0.5) * stride
