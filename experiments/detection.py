"""Does a detector find objects as well when its batch normalization is shifted so that no filter collapses?

    python -m experiments.detection
    python -m experiments.detection --dataset mnist --data-dir DIR
    python -m experiments.detection --preset paper --data-dir DIR

The second task of arXiv 2001.11216, small: a single-stage detector without anchors (FCOS, arXiv 1904.01355, with one
resolution) learns to find digits in scenes, where they lie at random scales and places and overlap a little. It is
trained with batch normalization and with post-shifted batch normalization, from the same seeds on the same batches,
with weight decay on every parameter. Measured are COCO's average precision on scenes of digits that it never saw, and
the collapsed share of its filters on all training scenes. `--dataset coco` takes COCO 2017 itself, or any set in its
form: DIR/annotations/instances_train2017.json, instances_val2017.json, DIR/train2017 and DIR/val2017.
"""

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from bnjax.data import Scenes, coco, random_batches, scenes_of
from bnjax.measurements import average_precision
from bnjax.models.detection import Detections, Detector, detection_loss, detections, recall
from bnjax.training import Recipe, TrainState
from experiments.claims.collapse import claims_of_shift
from experiments.common.averages import compared, over_seeds, paired_test
from experiments.common.claim import Claim
from experiments.common.collapsed_filters import collapsed_by_layer, collapsed_share, filters
from experiments.common.command import main
from experiments.common.detection_figures import SHOWN_FROM, figures
from experiments.common.image_sets import IMAGE_SETS
from experiments.common.networks import NORMALIZERS, OPTIMIZERS, NormalizerName, OptimizerName, TrainingOptions
from experiments.common.observed import observed_from_every_seed
from experiments.common.options import BESIDE_TRAINING

# Of the image sets those that are bright on black, as scenes take them.
IN_SCENES = ("digits", "mnist")
if TYPE_CHECKING:
    DatasetName = str
else:
    DatasetName = Literal[(*IN_SCENES, "coco")]

METRICS = ("ap", "ap50", "recall", "collapsed")
CLAIMS = {"ap": "larger", "ap50": "larger", "collapsed": "smaller"}
# Images that go through the detector at once.
CHUNK = 256
# So many test scenes are drawn.
SHOWN = 5
# A position is asked for an object whose centre is nearer than so many strides.
RADIUS = 1.5


@dataclass(frozen=True)
class Config(TrainingOptions):
    """Train a detector with several normalizers and measure its average precision and its collapsed filters."""

    dataset: DatasetName = "digits"
    """What is to be detected: digits or MNIST in generated scenes, or what COCO 2017 holds."""
    data_dir: Path | None = field(default=None, metadata=BESIDE_TRAINING)
    """Folder of COCO, or of prepared image sets; for these TFDS_DATA_DIR or ~/tensorflow_datasets if not given."""
    train_images: int = 1000
    """Scenes to train on; of COCO the first so many images with objects."""
    test_images: int = 200
    """Scenes to test on; of COCO likewise."""
    size: int = 64
    """Height and width of a scene, in pixels."""
    normalizers: tuple[NormalizerName, ...] = ("batch_norm", "post_shifted_batch_norm")
    """The normalizers to compare; the first is what the others are compared with."""
    width: int = 12
    """Channels of the detector's first stage; they double with every halving."""
    halvings: int = 2
    """How often the detector halves the images: 2 gives an output for every 4×4 pixels."""
    depth: int = 1
    """Convolutions before the detector's branches, and in each of them."""
    optimizer: OptimizerName = "adam"
    """SGD, SGD with momentum 0.9, or Adam."""
    learning_rate: float = 0.02
    """Learning rate at first; it falls to 0 along a cosine."""
    weight_decay: float = 5e-3
    """Weight decay of every parameter, added to its gradient, on scales and biases too."""
    batch_size: int = 16
    """Scenes of a training batch."""
    epochs: int = 10
    """Epochs of training; everything is measured after each."""
    seeds: int = 3
    """Runs of every normalizer, with the seeds seed, seed + 1, …"""

    def __post_init__(self) -> None:
        """Check that the detector can take the scenes."""
        super().__post_init__()
        if self.size % 2**self.halvings or self.size < 8:
            raise ValueError(f"--size needs to be at least 8 and to be halved {self.halvings} times, got {self.size}")

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        small = dataclasses.replace(self, train_images=32, test_images=12, size=32, width=4, batch_size=8)
        return dataclasses.replace(small, epochs=1, seeds=2)

    def paper_sized(self) -> "Config":
        """Return a run of the published kind: COCO, as many of its images as fit into memory, and small."""
        published = dataclasses.replace(self, dataset="coco", size=256, train_images=20_000, test_images=5_000)
        published = dataclasses.replace(published, width=64, halvings=3, depth=4, epochs=12)
        return dataclasses.replace(published, optimizer="momentum", learning_rate=0.01, weight_decay=1e-4)

    def scenes(self, *, train: bool) -> Scenes:
        """Return what to train or to test on; both parts have digits of their own."""
        count = self.train_images if train else self.test_images
        if self.dataset == "coco":
            if self.data_dir is None:
                raise ValueError(
                    "--dataset coco needs its folder, of annotations, train2017 and val2017, as --data-dir"
                )
            return coco(train=train, data_dir=self.data_dir, size=self.size, count=count)
        images = IMAGE_SETS[self.dataset].read(train=train, data_dir=self.data_dir)
        return scenes_of(images, count, size=self.size, seed=int(not train), sides=(self.size // 4, self.size // 2))


def recipe_of(config: Config, name: NormalizerName, classes: int, rows: int) -> Recipe:
    """Return a detector with a normalizer, and how it is trained on so many images."""
    model = Detector(classes, NORMALIZERS[name], config.width, config.halvings, config.depth)
    steps = config.epochs * (rows // config.batch_size)
    rate = optax.cosine_decay_schedule(config.learning_rate, max(1, steps))
    optimizer = optax.chain(optax.add_decayed_weights(config.weight_decay), OPTIMIZERS[config.optimizer](rate))
    return Recipe(model, optimizer, partial(detection_loss, radius=RADIUS * model.stride), score=recall)


def run(config: Config) -> dict[str, Any]:
    """Train a detector with every normalizer from every seed and measure it after every epoch."""
    train_scenes, test_scenes = config.scenes(train=True), config.scenes(train=False)
    if train_scenes.class_names != test_scenes.class_names:
        raise ValueError(
            f"training and test images need the same categories, got {', '.join(train_scenes.class_names)} and "
            f"{', '.join(test_scenes.class_names)}"
        )
    classes, rows = train_scenes.classes, len(train_scenes.images)
    runs, curves, layers, found, diverged = [], [], [], [], []
    for which, (trained, seen) in observed_from_every_seed(
        config,
        {name: recipe_of(config, name, classes, rows) for name in config.normalizers},
        train_scenes.labelled(),
        test_scenes.labelled(),
        seeds=config.seeds,
        order=random_batches,
        observe=partial(_observed, config, jnp.asarray(train_scenes.images), test_scenes),
        diverged=diverged,
    ):
        measured = [
            {**which, "epoch": at["epoch"], "ap": row["ap"], "ap50": row["ap50"], "recall": at["test_recall"]}
            | {"collapsed": collapsed_share(row["layers"]), "train_loss": at["train_loss"]}
            for row, at in zip(seen[1:], trained.history, strict=True)
        ]
        curves += measured
        runs.append(measured[-1])
        layers += [{**which, **row, "share": row["collapsed"] / row["filters"]} for row in seen[-1]["layers"]]
        if which["seed"] == config.seed:
            found += [{"normalizer": which["normalizer"], **row} for row in seen[-1]["found"]]
    first, *others = config.normalizers
    return {
        "table": over_seeds(runs, ("normalizer",), METRICS),
        "tests": [
            paired_test(runs, name, first, measure, claim, seeds=config.seeds)
            for name in others
            for measure, claim in CLAIMS.items()
        ],
        "curves": over_seeds(curves, ("normalizer", "epoch"), (*METRICS, "train_loss")),
        "layers": over_seeds(layers, ("normalizer", "layer", "name", "filters"), ("share",)),
        "runs": runs,
        "diverged": diverged,
        "images": np.round(test_scenes.images[:SHOWN], 2).tolist(),
        "there": _rows(test_scenes.boxes, test_scenes.labels, test_scenes.labels >= 0),
        "found": found,
        "data": f"{train_scenes.name}; tested on {test_scenes.name}",
    }


def _observed(
    config: Config, images: Array, scenes: Scenes, recipe: Recipe, seed: int, epoch: int, state: TrainState
) -> dict[str, Any]:
    """Return average precision on the test scenes and what is collapsed on the training images."""
    del seed
    found = jax.device_get(_detections(recipe.model, state, jnp.asarray(scenes.images)))
    ap, ap50 = average_precision(found, scenes.boxes, scenes.labels)
    shown = _rows(found.boxes, found.labels, found.scores >= SHOWN_FROM, found.scores) if epoch == config.epochs else []
    layers = collapsed_by_layer(filters(recipe.model, state, images))
    return {"ap": ap, "ap50": ap50, "layers": layers, "found": shown}


@partial(jax.jit, static_argnums=0)
def _detections(model: Detector, state: TrainState, images: Array) -> Detections:
    def of_row(image: Array) -> Detections:
        predictions: Any = model.apply(state.variables, image[None], mode="running")
        return jax.tree.map(lambda part: part[0], detections(predictions))

    return jax.lax.map(of_row, images, batch_size=CHUNK)


def _rows(boxes: np.ndarray, labels: np.ndarray, chosen: np.ndarray, scores: Any = None) -> list[dict[str, Any]]:
    """Return the chosen boxes of the first scenes as rows of a table, with scores if there are any."""
    return [
        {"image": int(image), "label": int(labels[image, place])}
        | dict(zip(("x0", "y0", "x1", "y1"), np.round(boxes[image, place], 2).tolist(), strict=True))
        | ({} if scores is None else {"score": round(float(scores[image, place]), 3)})
        for image, place in np.argwhere(chosen[:SHOWN])
    ]


def failures(results: dict[str, Any]) -> list[str]:
    """Return shares that are none; how well it detects is a result, not a check."""
    return [
        f"{row['normalizer']}: {measure} is {row[measure]:g}, and not from 0 to 1"
        for row in results["table"]
        for measure in METRICS
        if not 0 <= row[measure] <= 1
    ]


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of the paper's second task."""
    sentences = {
        "ap": "Post-shifted batch normalization makes detection (on COCO) better.",
        "collapsed": "Post-shifted batch normalization keeps filters of a detector.",
    }
    return claims_of_shift(results, config, sentences)


def summary(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the paired comparisons at the end; none with one normalizer."""
    return compared(results["tests"])


if __name__ == "__main__":
    main(
        run,
        Config,
        name="experiments.detection",
        figures=figures,
        failures=failures,
        claims=claims,
        summary=summary,
        x64=False,
        sooner=True,
    )
