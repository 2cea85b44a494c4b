"""How is a flow trained on two classes of images? Options, recipe, batches, and the samples of every epoch."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array, Int

from bnjax.data import Batches, LabelledImages
from bnjax.models.flow import RealNVP, dequantized, log_likelihood, negative_log_likelihood
from bnjax.normalizers import (
    Normalizer,
    batch_norm,
    batch_renorm,
    detached_batch_norm,
    frozen_batch_norm,
    ghost_batch_norm,
    group_norm,
    instance_norm,
    lp_norm,
    noisy_batch_norm,
)
from bnjax.training import Recipe, TrainState
from experiments.common.image_sets import ImageOptions
from experiments.common.networks import TrainingOptions
from experiments.common.observed import trained_and_observed

# Inside the networks and inside the flow; None stands for one mean and one scale of the whole batch.
NORMALIZERS: dict[str, tuple[Normalizer, Normalizer | None]] = {
    "batch_norm": (batch_norm(), batch_norm()),
    "layer_norm": (group_norm(groups=1), None),
    "instance_norm": (instance_norm(), None),
    "batch_renorm": (batch_renorm(), batch_renorm()),
    "detached_batch_norm": (detached_batch_norm(), detached_batch_norm()),
    "frozen_batch_norm": (batch_norm(), frozen_batch_norm()),
    "ghost_batch_norm": (ghost_batch_norm(ghost_size=4), ghost_batch_norm(ghost_size=4)),
    "l1_norm": (lp_norm(p=1), lp_norm(p=1)),
    "noisy_batch_norm": (noisy_batch_norm(), batch_norm()),
}
# From which rows the batches are drawn in turn, by the labels 0 and 1 of all rows.
POOLS: dict[str, Callable[[np.ndarray], list[np.ndarray]]] = {
    "random": lambda labels: [np.arange(len(labels))] * 2,
    "single_class": lambda labels: [np.flatnonzero(labels == label) for label in (0, 1)],
}
WEIGHT_DECAY = 1e-4
# 5e-5 times the squared lengths of all kernels, added to the loss, is this much decay of the lengths.
LENGTH_DECAY = 2 * 5e-5
SAMPLES = 8

if TYPE_CHECKING:
    NormalizerName = str
    PoolsName = str
else:  # On the command line, whatever the tables hold.
    NormalizerName, PoolsName = Literal[tuple(NORMALIZERS)], Literal[tuple(POOLS)]


@dataclass(frozen=True)
class Config(ImageOptions, TrainingOptions):
    """Train RealNVP on two classes and look at the likelihood of what lies between them."""

    least: ClassVar[Mapping[str, int]] = {**TrainingOptions.least, "positive": 0, "negative": 0}

    positive: int = 9
    """One class."""
    negative: int = 8
    """The other class."""
    normalizers: tuple[NormalizerName, ...] = ("batch_norm", "layer_norm")
    """The normalizers to compare."""
    batches: PoolsName = "random"
    """Whether a training batch holds both classes or one."""
    width: int = 16
    """Channels inside the networks (published: 64)."""
    blocks: int = 2
    """Residual blocks of each network (published: 8)."""
    batch_size: int = 64
    """Rows of a training batch."""
    repeats: int = 30
    """Batches of each class in an epoch, or twice as many random ones (published: 300)."""
    epochs: int = 5
    """Epochs of training."""
    seeds: int = 3
    """Runs of every normalizer, with the seeds seed, seed + 1, …"""
    pairs: int = 60
    """Pairs of test images, one of each class, that are mixed."""

    def __post_init__(self) -> None:
        """Check that the classes are two."""
        super().__post_init__()
        if self.positive == self.negative:
            raise ValueError(f"--positive and --negative need to be two classes, got {self.positive} twice")

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        small = dataclasses.replace(self, normalizers=("batch_norm",), width=2, blocks=1, repeats=1)
        return dataclasses.replace(small, epochs=2, seeds=1, pairs=4)

    def paper_sized(self) -> "Config":
        """Return the published run: two digits of MNIST."""
        published = dataclasses.replace(self, dataset="mnist", width=64, blocks=8)
        return dataclasses.replace(published, repeats=300)

    def pair_of_classes(self, *, train: bool) -> LabelledImages:
        """Return the images of the two classes, labelled 1 (positive) and 0 (negative)."""
        data = self.pixels(train=train)
        chosen = np.isin(data.labels, (self.positive, self.negative))
        labels = (data.labels[chosen] == self.positive).astype(np.int32)
        needed, part = (self.batch_size, "training") if train else (1, "test")
        for name, count in (("positive", np.sum(labels == 1)), ("negative", np.sum(labels == 0))):
            if count < needed:
                raise ValueError(
                    f"--{name} {getattr(self, name)} has {count} {part} images, fewer than the {needed} needed; choose "
                    "another class" + (" or a smaller --batch-size" if train else "")
                )
        name = f"the {len(labels):,} images of classes {self.positive} and {self.negative} of {data.name}"
        return LabelledImages(data.images[chosen], labels, name, 2)


def flow_of(config: Config, name: str, channels: int) -> RealNVP:
    """Return the flow with a normalizer of the table."""
    norm, flow_norm = NORMALIZERS[name]
    return RealNVP(
        channels=channels,
        width=config.width,
        blocks=config.blocks,
        norm=norm,
        flow_norm=flow_norm or batch_norm(),
        whole_batch=flow_norm is None,
    )


def recipe_of(config: Config, flow: RealNVP) -> Recipe:
    """Return maximum likelihood of dequantized images by Adamax, as published."""
    optimizer = optax.chain(
        optax.add_decayed_weights(WEIGHT_DECAY),
        optax.masked(optax.add_decayed_weights(LENGTH_DECAY), _lengths),
        optax.adamax(1e-3, b1=0.9, b2=0.999, eps=1e-7),
    )
    augment = partial(dequantized, levels=config.image_set.levels)
    return Recipe(flow, optimizer, negative_log_likelihood, augment, log_likelihood)


def _lengths(params: Any) -> Any:
    """Return which parameters are the lengths of weight-normalized kernels."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "length", params)


class TrainedFlow(NamedTuple):
    """A trained flow.

    Attributes:
        state: the state after the last epoch.
        history: as in `Trained`; the score is the log-likelihood (nats per image).
        samples: of epochs from 0 to the last, a dict of `epoch` and `images` (nested lists, pixels in [0, 1]).
    """

    state: TrainState
    history: list[dict[str, Any]]
    samples: list[dict[str, Any]]


def trained_flow(
    config: Config,
    recipe: Recipe,
    train_data: LabelledImages,
    test_data: LabelledImages,
    which: dict[str, Any],
    advance: Callable[[str, Mapping[str, float]], None],
) -> TrainedFlow:
    """Train one flow, or go on from the checkpoints and samples that a run under the same options left."""
    size = train_data.images.shape[1:3]

    def samples_of(_: int, state: TrainState) -> list[Any]:
        drawn = np.nan_to_num(_sampled(recipe.model, state.variables, jax.random.key(config.seed), size))
        return np.round(np.clip(drawn, 0, 1), 3).tolist()

    (state, history), samples = trained_and_observed(
        config,
        "-".join(map(str, which.values())),
        recipe,
        train_data,
        test_data,
        order=partial(repeated_batches, config),
        seed=which["seed"],
        advance=advance,
        observe=samples_of,
    )
    shown = sorted({round(config.epochs * step / 4) for step in range(5)})
    return TrainedFlow(state, history, [{"epoch": epoch, "images": samples[epoch]} for epoch in shown])


@partial(jax.jit, static_argnums=(0, 3))
def _sampled(flow: RealNVP, variables: Any, key: Array, size: tuple[int, int]) -> Array:
    sample: Any = partial(flow.apply, method="sample")
    return sample(variables, key, SAMPLES, size)


def repeated_batches(
    config: Config, labels: Int[np.ndarray, " n"], batch_size: int, generator: np.random.Generator
) -> Batches:
    """Return an epoch's batches, each without repetition: in turn of both classes, or of all rows."""
    pools = POOLS[config.batches](labels)
    rows = [generator.choice(pool, batch_size, replace=False) for _ in range(config.repeats) for pool in pools]
    return Batches(np.stack(rows), len(labels) - len(np.unique(rows)))
