"""How is COCO read, or any set in its form? Images and boxes, letterboxed to one size (arXiv 1405.0312)."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bnjax.data.scenes import Found, Scenes, resized, stacked


def coco(*, train: bool, data_dir: str | Path, size: int, count: int | None = None) -> Scenes:
    """Return a part of COCO 2017, or of a set with its files; arguments and errors as in `coco_scenes`.

    The folder `data_dir` holds `annotations/instances_train2017.json`, `annotations/instances_val2017.json`, and the
    images in `train2017/` and `val2017/`, as they are unpacked.
    """
    directory, part = Path(data_dir).expanduser(), "train2017" if train else "val2017"
    return coco_scenes(directory / "annotations" / f"instances_{part}.json", directory / part, size=size, count=count)


def coco_scenes(annotations: Path, folder: Path, *, size: int, count: int | None = None) -> Scenes:
    """Return the images of a file of annotations that hold an object, in its order.

    An image keeps its proportions: it is resized until its longer side is `size`, and lies in the middle of a black
    square. Boxes end where their image does. Crowds and boxes without area in it are left out, and so are images with
    no other object; the name says how many.
    All images are in memory at once, 12 · size² bytes each.

    Args:
        annotations: the file, with `images`, `annotations` and `categories`; the classes are the categories by number.
        folder: where the images are.
        size: height and width of the scenes, in pixels.
        count: the first so many images only; all of them if None.

    Raises:
        FileNotFoundError: there is no such file, or an image that it names is missing.
        ValueError: a file in another form, or one without an object.
    """
    if size < 1 or (count is not None and count < 1):
        raise ValueError(f"size and count need to be at least 1, got {size} and {count}")
    if not annotations.is_file():
        raise FileNotFoundError(
            f"annotations need to be in {annotations}, which is not there; unpack COCO's there, or pass another folder "
            "as --data-dir"
        )
    try:
        held = json.loads(annotations.read_text(encoding="utf-8"))
        categories = {row["id"]: str(row.get("name", row["id"])) for row in held["categories"]}
        if len(categories) < len(held["categories"]):
            raise ValueError("two categories of one number")
        labels = {number: label for label, number in enumerate(sorted(categories))}
        shapes = {row["id"]: (row["width"], row["height"]) for row in held["images"]}
        objects: dict[int, list[tuple[np.ndarray, int]]] = defaultdict(list)
        for row in held["annotations"]:
            box = _clipped(row["bbox"], shapes[row["image_id"]])
            if not row.get("iscrowd", 0) and (box[2:] > box[:2]).all():
                objects[row["image_id"]].append((box, labels[row["category_id"]]))
        files = {row["id"]: row["file_name"] for row in held["images"] if objects[row["id"]]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{annotations} needs the form of COCO, with images, annotations and categories, got {error!r}"
        ) from error
    if not files:
        raise ValueError(f"{annotations} needs boxes that are no crowds, got none; choose another file")
    chosen = dict(list(files.items())[:count])
    scenes = [_letterboxed(folder / file, objects[number], size) for number, file in chosen.items()]
    images, found = zip(*scenes, strict=True)
    name = _title(annotations, held, objects, len(files), len(chosen), size)
    return stacked(images, found, name, [categories[number] for number in labels])


def _clipped(box: list[float], shape: tuple[int, int]) -> np.ndarray:
    """Return what lies in an image of a width and height of a box (x, y, width, height), as (x0, y0, x1, y1)."""
    numbers = np.array(box, float)
    if numbers.shape != (4,) or not np.isfinite(numbers).all():
        raise ValueError(f"the bbox {box} in place of four finite numbers")
    corner, sides = numbers[:2], numbers[2:]
    return np.concatenate([np.clip(corner, 0, shape), np.clip(corner + sides, 0, shape)])


def _title(annotations: Path, held: dict[str, Any], objects: dict[int, Any], whole: int, count: int, size: int) -> str:
    part = f"subset: the first {count:,} of the {whole:,}" if count < whole else f"the {whole:,}"
    without, crowds = len(held["images"]) - whole, len(held["annotations"]) - sum(map(len, objects.values()))
    return (
        f"{part} images with objects of {annotations.stem}, letterboxed to {size}×{size} ({without:,} images without "
        f"and {crowds:,} crowds or boxes outside of them left out)"
    )


def _letterboxed(path: Path, objects: Found, size: int) -> tuple[np.ndarray, Found]:
    """Return an image in the middle of a square, and its boxes in there."""
    if not path.is_file():
        raise FileNotFoundError(f"the annotations name an image {path}, which is not there; unpack COCO's images there")
    with Image.open(path) as opened:
        pixels = np.asarray(opened.convert("RGB"), np.float32) / 255
    height, width = pixels.shape[:2]
    shape = np.maximum(1, np.round(np.array([height, width]) * size / max(height, width))).astype(int)
    top, left = (size - shape) // 2
    canvas = np.zeros((size, size, 3), np.float32)
    canvas[top : top + shape[0], left : left + shape[1]] = resized(pixels, *map(int, shape))
    scale, corner = shape[::-1] / (width, height), np.array([left, top])
    return canvas, [(np.tile(corner, 2) + box * np.tile(scale, 2), label) for box, label in objects]
