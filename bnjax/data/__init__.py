"""Data sets as arrays with their metadata."""

from bnjax.data.augment import random_crop, random_flip
from bnjax.data.batching import Batches, random_batches, single_class_batches
from bnjax.data.digits import digits
from bnjax.data.images import LabelledImages
from bnjax.data.prepared import NotPreparedError, cifar10, image_set, mnist

__all__ = [
    "Batches",
    "LabelledImages",
    "NotPreparedError",
    "cifar10",
    "digits",
    "image_set",
    "mnist",
    "random_batches",
    "random_crop",
    "random_flip",
    "single_class_batches",
]
