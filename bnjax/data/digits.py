"""Which real images come with the package? 1,797 handwritten digits of 8×8 pixels (scikit-learn's `load_digits`)."""

import numpy as np

from bnjax.data.images import LabelledImages


def digits(*, train: bool, train_images: int = 1297) -> LabelledImages:
    """Return the training or the test part of the digits, in the original order.

    Args:
        train: whether to return the first `train_images` images or the rest.
        train_images: how many images are for training, at least 1 and fewer than all.

    Raises:
        ValueError: a part would have no images.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    if not 1 <= train_images < len(labels):
        raise ValueError(f"train_images needs to be from 1 to {len(labels) - 1}, got {train_images}")
    part = slice(None, train_images) if train else slice(train_images, None)
    images = (np.asarray(pixels)[part].reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    name = f"digits 8×8, {'training' if train else 'test'} part ({len(images)} of {len(labels)})"
    return LabelledImages(images, np.asarray(labels)[part].astype(np.int32), name, 10)
