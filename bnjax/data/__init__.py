"""Data sets as arrays with their metadata."""

from bnjax.data.augment import random_crop, random_flip
from bnjax.data.batching import Batches, random_batches, single_class_batches
from bnjax.data.coco import coco, coco_scenes
from bnjax.data.digits import digits
from bnjax.data.images import LabelledImages
from bnjax.data.prepared import NotPreparedError, cifar10, image_set, mnist
from bnjax.data.scenes import Scenes, scenes_of

__all__ = [
    "Batches",
    "LabelledImages",
    "NotPreparedError",
    "Scenes",
    "cifar10",
    "coco",
    "coco_scenes",
    "digits",
    "image_set",
    "mnist",
    "random_batches",
    "random_crop",
    "random_flip",
    "scenes_of",
    "single_class_batches",
]
