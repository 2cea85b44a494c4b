"""Can this run be trained, and is it the one that a folder holds? What is checked before the first step."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from bnjax.data import LabelledImages
from bnjax.reporting.records import replacing
from bnjax.training.step import Recipe

RUN_FILE = "run.json"


def check_run(
    recipe: Recipe, train_data: LabelledImages, test_data: LabelledImages, *, batch_size: int, epochs: int, seed: int
) -> None:
    """Raise unless recipe, data and numbers fit together.

    Raises:
        TypeError: a recipe that is not hashable.
        ValueError: images and labels of different number or none, images that are not finite floats, labels that are no
            classes of the data, and numbers out of range.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("epochs", epochs, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} needs to be at least {least}, got {value}")
    try:
        hash(recipe)
    except TypeError as error:
        raise TypeError(f"a recipe needs to be hashable: {error}; give the model tuples in place of lists") from None
    for part, data in (("training", train_data), ("test", test_data)):
        _check_data(part, data, train_data.classes)


def _check_data(part: str, data: LabelledImages, classes: int) -> None:
    images, labels = np.asarray(data.images), np.asarray(data.labels)
    if len(images) != len(labels) or len(labels) == 0:
        raise ValueError(f"the {part} data needs as many images as labels, got {len(images)} and {len(labels)}")
    if not np.issubdtype(images.dtype, np.floating) or not np.isfinite(images).all():
        raise ValueError(
            f"the {part} images need to be finite floating-point numbers, got dtype {images.dtype}"
            + (" with NaN or infinity" if np.issubdtype(images.dtype, np.floating) else "; divide by 255?")
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"the {part} labels need to be from 0 to {classes - 1}, got some from {labels.min()} to {labels.max()}"
        )


def identity_of(
    recipe: Recipe, train_data: LabelledImages, test_data: LabelledImages, *, batch_size: int, seed: int
) -> dict[str, Any]:
    """Return what tells one run from another, as far as it can be written down: not optimizer, loss and order."""
    return {
        "model": repr(recipe.model),
        "training images": [train_data.name, *np.shape(train_data.images)],
        "test images": [test_data.name, *np.shape(test_data.images)],
        "batch_size": batch_size,
        "seed": seed,
    }


def require_same_run(directory: Path, identity: dict[str, Any]) -> None:
    """Raise ValueError if a folder is for another run, by its `run.json`; a folder without one is for any."""
    path = directory / RUN_FILE
    if not path.exists():
        return
    held = json.loads(path.read_text(encoding="utf-8"))
    differing = [
        f"{key} {held.get(key)!r} instead of {value!r}" for key, value in identity.items() if held.get(key) != value
    ]
    if differing:
        raise ValueError(
            f"{directory} holds another run, with {'; '.join(differing)}; choose another folder or remove it"
        )


def record_run(directory: Path, identity: dict[str, Any]) -> None:
    """Write what run a folder is for, as `run.json`."""
    with replacing(directory / RUN_FILE) as temporary:
        temporary.write_text(json.dumps(identity, indent=1), encoding="utf-8")
