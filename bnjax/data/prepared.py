"""How are larger image sets read? From a folder that TensorFlow Datasets prepared, without TensorFlow or a network."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bnjax.data.images import LabelledImages

# Images for training and testing as published; fewer are called a subset.
PUBLISHED = {"mnist": (60_000, 10_000), "cifar10": (50_000, 10_000)}


class NotPreparedError(FileNotFoundError):
    """The data set is not in the folder that was looked in."""


def data_directory(given: str | Path | None) -> Path:
    """Return the folder of prepared sets: the given one, else that of TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(given or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def mnist(*, train: bool, data_dir: str | Path | None = None) -> LabelledImages:
    """Return MNIST: 28×28 images of handwritten digits, one channel; arguments and errors as in `image_set`."""
    return image_set("mnist", train=train, data_dir=data_dir)


def cifar10(*, train: bool, data_dir: str | Path | None = None) -> LabelledImages:
    """Return CIFAR-10: 32×32 colour images of 10 classes; arguments and errors as in `image_set`."""
    return image_set("cifar10", train=train, data_dir=data_dir)


def image_set(name: str, *, train: bool, data_dir: str | Path | None = None) -> LabelledImages:
    """Return a part of a prepared image set with the features `image` and `label`, in its order on disk.

    Args:
        name: the set's name in TensorFlow Datasets, with its configuration if it has several (`name/config`).
        train: whether to read the split `train` or `test`.
        data_dir: the folder of prepared sets; None means the variable TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Raises:
        NotPreparedError: there is no such set, or not in the array_record format; the message has the command that
            prepares it.
        ValueError: a file that cannot be read, or a set without images and labels.
    """
    import tensorflow_datasets as tfds

    directory = data_directory(data_dir)
    folder = _latest_version(directory, name)
    split = "train" if train else "test"
    try:
        builder: Any = tfds.builder_from_directory(folder)
        features = builder.info.features
        source = builder.as_data_source(split)
        with _only_errors("absl"):  # It recommends another decoder of images.
            rows = source.__getitems__(range(len(source)))
        images = np.stack([row["image"] for row in rows]).astype(np.float32) / 255
        labels = np.array([row["label"] for row in rows], np.int32)
        classes = features["label"].num_classes
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"the {split} split of {name} in {folder} cannot be read: {error}; it needs the features 'image' and "
            f"'label' in whole array_record files. If a file is damaged, remove the folder and run\n"
            f"{preparation(name, directory)}"
        ) from error
    return LabelledImages(images, labels, _title(name, len(labels), train=train), classes)


@contextmanager
def _only_errors(logger: str) -> Iterator[None]:
    level = logging.getLogger(logger).level
    logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.getLogger(logger).setLevel(level)


def preparation(name: str, directory: Path) -> str:
    """Return the command that prepares a set."""
    return (
        f"    python -m bnjax.data.prepare {name} --data-dir {directory}\n"
        "(it downloads, and needs the extra `prepare`: pip install 'bnjax[prepare]')"
    )


def _latest_version(directory: Path, name: str) -> Path:
    versions = [
        path.parent
        for path in directory.glob(f"{name}/*/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
    ]
    if not versions:
        raise NotPreparedError(
            f"{name} is not prepared in {directory}. Pass the folder of prepared sets as --data-dir or in the variable "
            f"TFDS_DATA_DIR, or run\n{preparation(name, directory)}"
        )
    return max(versions, key=lambda path: [int(part) for part in path.name.split(".")])


def _title(name: str, count: int, *, train: bool) -> str:
    published = PUBLISHED.get(name, (count, count))[0 if train else 1]
    part = "training" if train else "test"
    return f"{name}, {part} " + (f"subset ({count:,} of {published:,})" if count < published else f"set ({count:,})")
