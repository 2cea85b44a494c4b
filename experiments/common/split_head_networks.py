"""What do the experiments on a head's off-diagonal Hessian share? Networks, batches of one class, and that Hessian.

LeNet-5 v1–v4 (or AlexNet) are trained with batch normalization of 20 features in their head. What enters it is measured
on test batches of one class each. Row d of H_off Ŷ (H_off the off-diagonal part of the Hessian of the head's
cross-entropy at 0, Ŷ features × rows) is made of two parts of Ŷ: of its projections on ŷ_d, Ŷ_linear, which is blocked,
and of the rest, Ŷ_none, which gets through (arXiv 2205.15146; docs/theory.md, T3).
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from bnjax.data import LabelledImages, random_batches
from bnjax.derivatives import cross_entropy_head, expand
from bnjax.models import SplitHead
from bnjax.normalizers import batch_norm
from bnjax.training import Recipe, TrainState, require_resumable
from experiments.common.image_sets import ImageOptions
from experiments.common.networks import MODELS, TrainingOptions, sized_for
from experiments.common.progress import training_bar

SPLIT_MODELS = tuple(name for name in MODELS if name.startswith(("lenet", "alexnet")))
OPTIMIZER_OF = {"authors": optax.sgd(0.01), "adam": optax.adam(2e-3)}
if TYPE_CHECKING:
    SplitModelName = str
    RecipeName = str
else:  # On the command line, whatever the tables hold.
    SplitModelName, RecipeName = Literal[SPLIT_MODELS], Literal[tuple(OPTIMIZER_OF)]
# The authors take the Hessian at the output y = 0 of the affine phase, beside the unscaled Ŷ; the standardized
# coordinates count the affine phase to the head.
Coordinates = Literal["authors", "standardized"]


@dataclass(frozen=True)
class SplitHeadOptions(ImageOptions, TrainingOptions):
    """The options of an experiment on networks with batch normalization of 20 features in their head."""

    least: ClassVar[Mapping[str, int]] = {**TrainingOptions.least, "rows": 3}

    models: tuple[SplitModelName, ...] = ("lenet_v1", "lenet_v2", "lenet_v3", "lenet_v4")
    """The networks."""
    recipes: tuple[RecipeName, ...] = tuple(OPTIMIZER_OF)
    """The authors' SGD of rate 0.01, and Adam of rate 0.002, which trains all four versions."""
    batch_size: int = 32
    """Rows of a training batch."""
    epochs: int = 15
    """Epochs of training on random batches."""
    rows: int = 32
    """Rows of a measured batch, all of one class."""
    repeats: int = 20
    """Measured batches of every class."""
    checkpoints: Path | None = None
    """Folder that keeps the trained networks, for the next run with the same options; none are kept if not given."""

    def smoke_sized(self) -> Self:
        """Return a run of seconds."""
        return dataclasses.replace(self, models=("lenet_v2",), recipes=("adam",), epochs=1, repeats=2)

    def paper_sized(self) -> Self:
        """Return the published run: 10 epochs of MNIST, 4,690 steps; of a subset it takes more epochs."""
        published = dataclasses.replace(self, dataset="mnist", models=SPLIT_MODELS, recipes=("authors",))
        return dataclasses.replace(published, batch_size=128, epochs=10, rows=128, repeats=100)


class TrainedSplitHead(NamedTuple):
    """A trained network with batch normalization in its head.

    Attributes:
        name: the model's name.
        recipe: the recipe's name.
        model: the model.
        state: its state after the last epoch.
        accuracy: its test accuracy then.
        test_data: the test images in its size.
    """

    name: str
    recipe: str
    model: SplitHead
    state: TrainState
    accuracy: float
    test_data: LabelledImages


def trained_split_heads(
    config: SplitHeadOptions, train_data: LabelledImages, test_data: LabelledImages
) -> Iterator[TrainedSplitHead]:
    """Train every model by every recipe, or go on from their checkpoints, and yield one after the other.

    Raises:
        ValueError: before any is trained, a folder of checkpoints that holds another run or one of more epochs.
    """
    data = {name: (sized_for(name, train_data), sized_for(name, test_data)) for name in config.models}
    runs = [
        (name, how, Recipe(MODELS[name](norm=batch_norm(), classes=train_data.classes), OPTIMIZER_OF[how]))
        for name, how in product(config.models, config.recipes)
    ]
    options = {"batch_size": config.batch_size, "epochs": config.epochs, "seed": config.seed, "order": random_batches}
    for name, how, recipe in runs:
        if config.checkpoints:
            require_resumable(config.checkpoints / f"{name}-{how}", recipe, *data[name], **options)
    with training_bar(len(runs) * config.epochs) as advance:
        for name, how, recipe in runs:
            directory = config.checkpoints and config.checkpoints / f"{name}-{how}"
            report = partial(advance, f"{name}, {how}")
            trained = config.trained(recipe, *data[name], report=report, directory=directory)
            model: Any = recipe.model
            yield TrainedSplitHead(name, how, model, trained.state, trained.history[-1]["test_accuracy"], data[name][1])


def single_class_rows(
    labels: Int[np.ndarray, " n"], *, rows: int, repeats: int, seed: int
) -> Int[np.ndarray, "batches rows"]:
    """Return the rows of `repeats` batches of every class, in the order of the classes, none twice in a batch.

    Raises:
        ValueError: a class of fewer rows than a batch.
    """
    generator = np.random.default_rng(seed)
    pools = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    smallest = min(pools, key=lambda label: len(pools[label]))
    if len(pools[smallest]) < rows:
        raise ValueError(
            f"--rows needs to be at most the {len(pools[smallest])} test images of class {smallest}, got {rows}"
        )
    return np.stack([generator.choice(pool, rows, replace=False) for pool in pools.values() for _ in range(repeats)])


def features_before_normalizer(network: TrainedSplitHead) -> Float[Array, "n features"]:
    """Return what enters the normalizer for every test image, in float64 from the trained network in float32."""
    return _trunk(network.model, network.state.params, jnp.asarray(network.test_data.images)).astype(float)


@partial(jax.jit, static_argnums=0)
def _trunk(model: SplitHead, params: Any, images: Array) -> Float[Array, "n features"]:
    apply: Any = model.apply
    return jax.lax.map(lambda image: apply({"params": params}, image[None], method="trunk")[0], images, batch_size=64)


@partial(jax.jit, static_argnums=(0, 2))
def off_diagonal_hessian(model: SplitHead, params: Any, coordinates: Coordinates) -> Float[Array, "features features"]:
    """Return H_off of the cross-entropy of a row's logits at 0, in float64 and in these coordinates.

    It is that of every label: the Hessian of a softmax cross-entropy behind piecewise-linear logits does not depend on
    the label.
    """
    apply: Any = model.apply
    variables = jax.tree.map(lambda leaf: leaf.astype(float), {"params": params})
    affine = variables["params"]["normalization"]
    slope, offset = (1.0, 0.0) if coordinates == "authors" else (affine["scale"], affine["bias"])
    head = cross_entropy_head(lambda row: apply(variables, slope * row + offset, method="head"))
    hessian = expand(head, jnp.zeros(model.features), jnp.array(0)).hessian
    return hessian - jnp.diag(jnp.diag(hessian))


def split_term(
    off_diagonal: Float[Array, "d d"], standardized: Float[Array, "rows d"]
) -> tuple[Float[Array, "rows d"], Float[Array, "rows d"]]:
    """Return the gradients of the parts of the off-diagonal term at the normalizer's output, feature by feature.

    Column d of the first is Ŷ_linear H_off,dᵀ with Ŷ_linear = ŷ_d ŷ_dᵀ Ŷ / ŷ_dᵀŷ_d, a multiple of ŷ_d; that of the
    second is Ŷ_none H_off,dᵀ with Ŷ_none = Ŷ - Ŷ_linear, orthogonal to ŷ_d. They add up to the term's, Ŷ H_off. (Here
    Ŷ is rows × features.) A feature of zeros has zeros.
    """
    term = standardized @ off_diagonal
    lengths = jnp.sum(standardized**2, axis=0)
    along = jnp.sum(term * standardized, axis=0) / jnp.where(lengths > 0, lengths, 1.0)
    linear = along * standardized
    return linear, term - linear
