"""The models in test sizes, each beside the same architecture in PyTorch and the shape of its input."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import linen as nn

from bnjax.models import MLP, VGG, VGGA, AlexNet, DeepLinear, DenseNet, LeNet, ResNet, densenet, resnet, vgg
from bnjax.normalizers import Normalizer


class ModelCase(NamedTuple):
    """A model with a given normalizer, its counterpart (built late: it needs PyTorch) and the shape of a batch."""

    build: Callable[[Normalizer], nn.Module]
    counterpart: Callable[[Any], Any]
    shape: tuple[int, ...]


SMALL_STAGES = {"vgg11": vgg.VGG11, "vgg13": vgg.VGG13, "vgg16": vgg.VGG16, "vgg19": vgg.VGG19}

MODELS = {
    "mlp": ModelCase(
        lambda norm: MLP((12, 8), norm=norm), lambda torch_models: torch_models.MLP(27, (12, 8), 10), (6, 3, 3, 3)
    ),
    "deep_linear": ModelCase(
        lambda norm: DeepLinear(norm=norm), lambda torch_models: torch_models.DeepLinear(25, 10), (8, 10)
    ),
    **{
        f"lenet_v{version}": ModelCase(
            lambda norm, version=version: LeNet(version, norm=norm),
            lambda torch_models, version=version: torch_models.LeNet(version),
            (4, 28, 28, 1),
        )
        for version in (1, 2, 3, 4)
    },
    **{
        f"alexnet_v{version}": ModelCase(
            lambda norm, version=version: AlexNet(version, norm=norm),
            lambda torch_models, version=version: torch_models.AlexNet(version),
            (3, 32, 32, 1),
        )
        for version in (2,)
    },
    **{
        name: ModelCase(
            lambda norm, stages=stages: VGG(stages, norm=norm, width=4, hidden=16, dropout=0.0),
            lambda torch_models, name=name: torch_models.VGG(name, 4, 16),
            (4, 32, 32, 3),
        )
        for name, stages in SMALL_STAGES.items()
    },
    "vgg_a": ModelCase(
        lambda norm: VGGA(norm=norm, width=4), lambda torch_models: torch_models.VGGA(4), (4, 32, 32, 3)
    ),
    "resnet18": ModelCase(
        lambda norm: ResNet(resnet.RESNET18, norm=norm, width=4),
        lambda torch_models: torch_models.ResNet((2, 2, 2, 2), False, 4),
        (3, 16, 16, 3),
    ),
    "bottleneck": ModelCase(
        lambda norm: ResNet((1, 2, 1, 1), bottleneck=True, norm=norm, width=4),
        lambda torch_models: torch_models.ResNet((1, 2, 1, 1), True, 4),
        (3, 16, 16, 3),
    ),
    "densenet": ModelCase(
        lambda norm: DenseNet((2, 1, 1, 1), norm=norm, growth=4),
        lambda torch_models: torch_models.DenseNet((2, 1, 1, 1), 4),
        (3, 16, 16, 3),
    ),
}

# Published sizes: the Flax model and its counterpart.
FULL_SIZE = {
    "vgg11": (lambda norm: VGG(vgg.VGG11, norm=norm), lambda torch_models: torch_models.VGG("vgg11")),
    "vgg19": (lambda norm: VGG(vgg.VGG19, norm=norm), lambda torch_models: torch_models.VGG("vgg19")),
    "vgg_a": (lambda norm: VGGA(norm=norm), lambda torch_models: torch_models.VGGA()),
    "resnet18": (lambda norm: ResNet(norm=norm), lambda torch_models: torch_models.ResNet((2, 2, 2, 2), False)),
    "resnet34": (
        lambda norm: ResNet(resnet.RESNET34, norm=norm),
        lambda torch_models: torch_models.ResNet((3, 4, 6, 3), False),
    ),
    "resnet50": (
        lambda norm: ResNet(resnet.RESNET50, bottleneck=True, norm=norm),
        lambda torch_models: torch_models.ResNet((3, 4, 6, 3), True),
    ),
    "densenet121": (
        lambda norm: DenseNet(densenet.DENSENET121, norm=norm),
        lambda torch_models: torch_models.DenseNet((6, 12, 24, 16)),
    ),
}
