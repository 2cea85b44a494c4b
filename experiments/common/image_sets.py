"""Which sets of labelled images can be named on the command line, and what has to be known of each?"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from bnjax.data import LabelledImages, cifar10, digits, mnist
from experiments.common.options import BESIDE_TRAINING, Options


class ImageSet(NamedTuple):
    """A set of labelled images.

    Attributes:
        read: `read(train=…, data_dir=…)` returns the training or the test images, in [0, 1].
        levels: how many values a pixel takes.
        moments: mean and standard deviation of the channels, to normalize with; None leaves the images as they are.
    """

    read: Callable[..., LabelledImages]
    levels: int = 256
    moments: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def _embedded_digits(*, train: bool, data_dir: Path | None) -> LabelledImages:
    """Return the digits, which are in no folder."""
    del data_dir
    return digits(train=train)


# The moments are those that the authors of arXiv 2205.15146 normalize with.
IMAGE_SETS = {
    "digits": ImageSet(_embedded_digits, levels=17),
    "mnist": ImageSet(mnist, moments=((0.1307,), (0.3081,))),
    "cifar10": ImageSet(cifar10, moments=((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))),
}

if TYPE_CHECKING:
    ImageSetName = str
else:  # On the command line, whatever the table holds.
    ImageSetName = Literal[tuple(IMAGE_SETS)]


@dataclass(frozen=True)
class ImageOptions(Options):
    """Which images an experiment is about."""

    dataset: ImageSetName = "digits"
    """The images; all but the digits need to be prepared once."""
    data_dir: Path | None = field(default=None, metadata=BESIDE_TRAINING)
    """Folder of prepared image sets; TFDS_DATA_DIR or ~/tensorflow_datasets if not given."""
    train_images: int | None = None
    """Train on the first so many images only; all if not given."""
    test_images: int | None = None
    """Test on the first so many images only; all if not given."""

    @property
    def image_set(self) -> ImageSet:
        """What is known of the images."""
        return IMAGE_SETS[self.dataset]

    def images(self, *, train: bool) -> LabelledImages:
        """Return the training or the test images, normalized if the set has moments."""
        data, moments = self.pixels(train=train), self.image_set.moments
        return data if moments is None else data.normalized(*moments)

    def pixels(self, *, train: bool) -> LabelledImages:
        """Return the training or the test images in [0, 1]."""
        data = self.image_set.read(train=train, data_dir=self.data_dir)
        return data.first(self.train_images if train else self.test_images)
