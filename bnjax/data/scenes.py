"""What is there to detect? Scenes of several objects with their boxes, and how to make them of labelled images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from bnjax.boxes import intersection_over_union
from bnjax.data.images import LabelledImages

# Pixels above it are the object.
INK = 0.2
# So many places are drawn for an object before it is left out.
TRIES = 20
# The largest intersection over union of two boxes.
OVERLAP = 0.2
Found = list[tuple[np.ndarray, int]]


class Scenes(NamedTuple):
    """Images with the boxes of their objects.

    Attributes:
        images: float32 of shape (n, h, w, channels), in [0, 1].
        boxes: float32 of shape (n, objects, 4), (x0, y0, x1, y1) in pixels as in `bnjax.boxes`; zeros after the last.
        labels: int32 of shape (n, objects), 0 … classes - 1; -1 where there is no object.
        name: what to call the data on a figure; it says so if the data is a subset.
        class_names: what the classes are called.
    """

    images: Float[np.ndarray, "n h w channels"]
    boxes: Float[np.ndarray, "n objects 4"]
    labels: Int[np.ndarray, "n objects"]
    name: str
    class_names: tuple[str, ...]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def labelled(self) -> LabelledImages:
        """Return the images as `bnjax.training` takes them; the label of each is (objects, 5), of label and box."""
        targets = np.concatenate([self.labels[..., None], self.boxes], axis=-1, dtype=np.float32)
        return LabelledImages(self.images, targets, self.name, self.classes)


def stacked(images: Sequence[np.ndarray], found: Sequence[Found], name: str, class_names: Sequence[str]) -> Scenes:
    """Return scenes of images (h, w, channels) and what is found in each: boxes (x0, y0, x1, y1) with labels."""
    most = max(map(len, found))
    boxes = np.zeros((len(found), most, 4), np.float32)
    labels = np.full((len(found), most), -1, np.int32)
    for scene, objects in enumerate(found):
        for place, (box, label) in enumerate(objects):
            boxes[scene, place], labels[scene, place] = box, label
    return Scenes(np.stack(images), boxes, labels, name, tuple(class_names))


def scenes_of(
    data: LabelledImages,
    count: int,
    *,
    size: int,
    seed: int,
    objects: tuple[int, int] = (1, 4),
    sides: tuple[int, int] = (16, 32),
) -> Scenes:
    """Return scenes of images at random scales and places on black; the same seed gives the same bits.

    An image is resized to a random side and cut to its pixels above `INK`, and so is its box. Where two overlap, the
    brighter one is seen. No two boxes overlap by more than `OVERLAP`; what finds no such place in `TRIES` is left out.

    Args:
        data: images of one object each, bright on black.
        count: number of scenes.
        size: height and width of a scene, in pixels.
        seed: of everything random.
        objects: the fewest and the most objects of a scene; all numbers between are equally likely.
        sides: the smallest and the largest side of an image before it is cut, in pixels; equally likely as well.

    Raises:
        ValueError: numbers out of range, or an image with no pixel above `INK`.
    """
    if count < 1 or not 1 <= objects[0] <= objects[1] or not 1 <= sides[0] <= sides[1] <= size:
        raise ValueError(
            "scenes need count >= 1, 1 <= fewest <= most objects and 1 <= smallest <= largest side <= size, got count "
            f"{count}, objects {objects}, sides {sides} and size {size}"
        )
    generator = np.random.default_rng(seed)
    images, found = zip(*(_scene(data, size, objects, sides, generator) for _ in range(count)), strict=True)
    name = f"{count:,} scenes of {objects[0]} to {objects[1]} of {data.name}, {size}×{size}, seed {seed}"
    return stacked(images, found, name, [str(label) for label in range(data.classes)])


def _scene(
    data: LabelledImages,
    size: int,
    objects: tuple[int, int],
    sides: tuple[int, int],
    generator: np.random.Generator,
) -> tuple[np.ndarray, Found]:
    canvas = np.zeros((size, size, data.images.shape[-1]), np.float32)
    found: Found = []
    for _ in range(generator.integers(*objects, endpoint=True)):
        row, side = generator.integers(len(data.labels)), generator.integers(*sides, endpoint=True)
        cut = _cut_to_ink(resized(data.images[row], int(side), int(side)))
        box = _free_place(cut.shape[:2], [box for box, _ in found], size, generator)
        if box is not None:
            x0, y0, x1, y1 = box
            canvas[y0:y1, x0:x1] = np.maximum(canvas[y0:y1, x0:x1], cut)
            found.append((box, int(data.labels[row])))
    return canvas, found


def resized(image: Float[np.ndarray, "h w channels"], height: int, width: int) -> Float[np.ndarray, "height width c"]:
    """Return an image in another size, bilinearly; where it shrinks, a pixel is a mean of those that it replaces."""
    channels = [
        Image.fromarray(np.ascontiguousarray(channel)).resize((width, height), Image.Resampling.BILINEAR)
        for channel in np.moveaxis(image.astype(np.float32), -1, 0)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def _cut_to_ink(image: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(np.max(image, axis=-1) > INK)
    if not len(rows):
        raise ValueError(
            f"every image needs pixels above {INK} at {image.shape[0]}×{image.shape[1]}, got one that is at most "
            f"{image.max():g}; choose larger sides, or leave it out"
        )
    return image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _free_place(
    shape: tuple[int, ...], others: list[np.ndarray], size: int, generator: np.random.Generator
) -> np.ndarray | None:
    """Return a random box of a shape that overlaps with none of the others by too much, if some try finds one."""
    height, width = shape
    for _ in range(TRIES):
        x, y = generator.integers(0, (size - width + 1, size - height + 1))
        box = np.array([x, y, x + width, y + height])
        if all(intersection_over_union(box * 1.0, other * 1.0) <= OVERLAP for other in others):
            return box
    return None
