"""Which networks, normalizers and optimizers can be named on the command line?"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array

from bnjax.data import LabelledImages, random_batches
from bnjax.models import MLP, VGG, VGGA, AlexNet, DenseNet, LeNet, ResNet
from bnjax.models.resnet import RESNET18, RESNET34, RESNET50
from bnjax.models.vgg import VGG11, VGG13, VGG16, VGG19
from bnjax.normalizers import (
    Normalizer,
    batch_norm,
    batch_renorm,
    detached_batch_norm,
    group_norm,
    identity,
    layer_norm,
    lp_norm,
    noisy_batch_norm,
    post_shifted_batch_norm,
    rms_norm,
)
from bnjax.training import Order, Recipe, Trained, TrainState, initial_state, train
from experiments.common.image_sets import ImageOptions
from experiments.common.options import Options

# The epsilon of a normalizer may be given when it is made.
NORMALIZER_FACTORIES: dict[str, Callable[..., Normalizer]] = {
    "none": identity,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "detached_batch_norm": detached_batch_norm,
    "post_shifted_batch_norm": post_shifted_batch_norm,
    "noisy_batch_norm": noisy_batch_norm,
    "batch_renorm": batch_renorm,
    "l1_norm": partial(lp_norm, p=1),
    "linf_norm": partial(lp_norm, p=math.inf),
    # Over all positions and channels of an image: what is called layer normalization in networks of images.
    "image_layer_norm": partial(group_norm, groups=1),
}
NORMALIZERS: dict[str, Normalizer] = {name: factory() for name, factory in NORMALIZER_FACTORIES.items()}
MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    **{f"lenet_v{version}": partial(LeNet, version) for version in (1, 2, 3, 4)},
    **{f"alexnet_v{version}": partial(AlexNet, version) for version in (1, 2, 3, 4)},
    "vgg11": partial(VGG, VGG11),
    "vgg13": partial(VGG, VGG13),
    "vgg16": partial(VGG, VGG16),
    "vgg19": partial(VGG, VGG19),
    "vgg_a": VGGA,
    "vgg_a_narrow": partial(VGGA, width=8),
    "resnet18": partial(ResNet, RESNET18),
    "resnet18_narrow": partial(ResNet, RESNET18, width=8),
    "resnet34": partial(ResNet, RESNET34),
    "resnet50": partial(ResNet, RESNET50, bottleneck=True),
    "densenet121": DenseNet,
}
# Sizes of images that a network's layers are made for; others take the images as they are.
IMAGE_SIZES = {name: 28 if name.startswith("lenet") else 32 for name in MODELS if name != "mlp"}

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
}

if TYPE_CHECKING:
    ModelName = str
    NormalizerName = str
    OptimizerName = str
else:  # On the command line, whatever the tables hold.
    ModelName, NormalizerName = Literal[tuple(MODELS)], Literal[tuple(NORMALIZERS)]
    OptimizerName = Literal[tuple(OPTIMIZERS)]


@dataclass(frozen=True)
class TrainingOptions(Options):
    """How long an experiment trains, and on batches of which size."""

    batch_size: int = 32
    """Rows of a training batch."""
    epochs: int = 20
    """Epochs of training."""

    def trained(
        self,
        recipe: Recipe,
        train_data: LabelledImages,
        test_data: LabelledImages,
        *,
        report: Callable[[dict[str, Any]], None],
        order: Order = random_batches,
        seed: int | None = None,
        start: TrainState | None = None,
        directory: Path | None = None,
        observe: Callable[[int, TrainState], None] = lambda *_: None,
    ) -> Trained:
        """Return what `train` makes of a recipe with these options; with their own seed if none is given."""
        return train(
            recipe,
            train_data,
            test_data,
            order=order,
            batch_size=self.batch_size,
            epochs=self.epochs,
            seed=self.seed if seed is None else seed,
            start=start,
            directory=directory,
            mesh=self.mesh,
            report=report,
            observe=observe,
        )


def network(name: ModelName = "mlp", normalizer: NormalizerName = "batch_norm", **options: Any) -> nn.Module:
    """Return a network of the table with a normalizer of the other, by their names."""
    return MODELS[name](norm=NORMALIZERS[normalizer], **options)


def optimizer_of_any_rate(name: OptimizerName, weight_decay: float = 0.0) -> optax.GradientTransformation:
    """Return an optimizer whose learning rate is in its state (`start_at_rate`); the decay is added to the gradient."""

    def decayed(learning_rate: float) -> optax.GradientTransformation:
        return optax.chain(optax.add_decayed_weights(weight_decay), OPTIMIZERS[name](learning_rate))

    return optax.inject_hyperparams(decayed)(learning_rate=0.0)


def start_at_rate(
    recipe: Recipe, rate: float, images: np.ndarray, seed: int, learned: TrainState | None = None
) -> TrainState:
    """Return the state before the first step, the learning rate in it, so that all rates run one program.

    Args:
        recipe: its optimizer is one of `optimizer_of_any_rate`.
        rate: the learning rate.
        images: training images, for their shape.
        seed: of the weights and of everything random in the run.
        learned: a state whose parameters and statistics are the first ones, in place of random ones.
    """
    state = initial_state(recipe.model, recipe.optimizer, jax.random.key(seed), jnp.asarray(images[:2]))
    settings = {**state.optimizer_state.hyperparams, "learning_rate": jnp.float32(rate)}
    state = state._replace(optimizer_state=state.optimizer_state._replace(hyperparams=settings))
    return state if learned is None else state._replace(params=learned.params, stats=learned.stats)


def fixed_keys() -> dict[str, Array]:
    """Return the keys of what is random in a network, for measurements that hold it fixed."""
    return {"dropout": jax.random.key(0), "noise": jax.random.key(1)}


def normalizer_at(name: NormalizerName, *, epsilon: float) -> Normalizer:
    """Return a normalizer of the table with an epsilon; the identity has none."""
    return identity() if name == "none" else NORMALIZER_FACTORIES[name](epsilon=epsilon)


def sized_for(model: str, data: LabelledImages) -> LabelledImages:
    """Return the images in the size that a model is made for."""
    return data.resized(IMAGE_SIZES[model]) if model in IMAGE_SIZES else data


@dataclass(frozen=True)
class DataOptions(ImageOptions, TrainingOptions):
    """The options of an experiment on images with one network."""

    model: ModelName = "mlp"
    """The network."""

    def load(self, *, train: bool) -> LabelledImages:
        """Return the training or the test images for the network."""
        return sized_for(self.model, self.images(train=train))

    def network(self, normalizer: NormalizerName, classes: int) -> nn.Module:
        """Return the model with a normalizer."""
        return network(self.model, normalizer, classes=classes)
