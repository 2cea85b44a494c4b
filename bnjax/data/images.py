"""What is a data set here? Arrays of images and labels, with what to call them."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Shaped


class LabelledImages(NamedTuple):
    """Images with their labels.

    Attributes:
        images: float32 of shape (n, h, w, channels), in [0, 1].
        labels: int32 of shape (n,), 0 … classes - 1; or (n, …), what a loss asks of each image instead of one class.
        name: what to call the data on a figure; it says so if the data is a subset.
        classes: number of classes.
    """

    images: Float[np.ndarray, "n h w channels"]
    labels: Shaped[np.ndarray, "n ..."]
    name: str
    classes: int

    def first(self, count: int | None) -> "LabelledImages":
        """Return the first `count` images, as a subset by name; all of them if there are no more, or for None.

        Raises:
            ValueError: a count below 1.
        """
        if count is not None and count < 1:
            raise ValueError(f"count needs to be at least 1, got {count}")
        if count is None or count >= len(self.images):
            return self
        name = f"subset: the first {count:,} of {self.name}"
        return self._replace(images=self.images[:count], labels=self.labels[:count], name=name)

    def of_classes(self, classes: Iterable[int]) -> "LabelledImages":
        """Return the images of some classes, as a subset by name; labels and number of classes stay.

        Raises:
            ValueError: there is no image of these classes, or the labels are not one class an image.
        """
        if self.labels.ndim != 1:
            raise ValueError(f"labels need to be one class an image, got shape {self.labels.shape} in {self.name}")
        wanted = sorted(classes)
        chosen = np.isin(self.labels, wanted)
        if not chosen.any():
            raise ValueError(f"there need to be images of the classes {wanted}, got none in {self.name}")
        name = f"classes {', '.join(map(str, wanted))} of {self.name}"
        return self._replace(images=self.images[chosen], labels=self.labels[chosen], name=name)

    def resized(self, size: int) -> "LabelledImages":
        """Return the images resized to `size` × `size`, bilinearly.

        Raises:
            ValueError: a size below 1.
        """
        if size < 1:
            raise ValueError(f"size needs to be at least 1, got {size}")
        if self.images.shape[1:3] == (size, size):
            return self
        shape = (len(self.images), size, size, self.images.shape[-1])
        images = np.asarray(jax.image.resize(self.images, shape, "bilinear"), np.float32)
        return self._replace(images=images, name=f"{self.name}, resized to {size}×{size}")

    def normalized(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> "LabelledImages":
        """Return the images with `(image - mean) / deviation`, one number a channel."""
        shift, scale = np.asarray(mean, np.float32), np.asarray(deviation, np.float32)
        return self._replace(images=(self.images - shift) / scale)
