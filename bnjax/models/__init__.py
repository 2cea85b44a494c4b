"""Flax models with the normalizer passed in."""

from bnjax.models.alexnet import AlexNet
from bnjax.models.convolution import Convolution
from bnjax.models.cut import Cut, cut_at, cut_at_last_normalizer, normalizer_names
from bnjax.models.deep_linear import DeepLinear
from bnjax.models.densenet import DenseNet
from bnjax.models.lenet import LeNet
from bnjax.models.mlp import MLP
from bnjax.models.normalizer import Normalization
from bnjax.models.passages import Differentiated, Passage, differentiate, passages
from bnjax.models.resnet import ResNet
from bnjax.models.split_head import SplitHead
from bnjax.models.vgg import VGG
from bnjax.models.vgg_a import VGGA

__all__ = [
    "MLP",
    "VGG",
    "VGGA",
    "AlexNet",
    "Convolution",
    "Cut",
    "DeepLinear",
    "DenseNet",
    "Differentiated",
    "LeNet",
    "Normalization",
    "Passage",
    "ResNet",
    "SplitHead",
    "cut_at",
    "cut_at_last_normalizer",
    "differentiate",
    "normalizer_names",
    "passages",
]
