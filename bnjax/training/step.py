"""How is a model trained? One step as a pure function, and whole epochs without a stop on the device."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, Float, Int, Shaped

from bnjax.devices import over_rows
from bnjax.training.state import TrainState

Outputs = Any  # Of a model: an array, or several.
Labels = Shaped[Array, "n ..."]  # One a row, of any shape that the loss takes.
Loss = Callable[[Outputs, Array], Array]
Score = Callable[[Outputs, Array], Array]
Augment = Callable[[Array, Array], Array]


def accuracy(logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    """Return 1 for every row whose largest logit is that of its label and whose logits are all finite, else 0."""
    # The argmax of NaN would be class 0.
    right = (jnp.argmax(logits, axis=-1) == labels) & jnp.all(jnp.isfinite(logits), axis=-1)
    return right.astype(float)


class Metrics(NamedTuple):
    """Loss and score, of one batch or, stacked, of several.

    Attributes:
        loss: the mean loss over the rows.
        score: the mean score over the rows, their accuracy as a rule.
    """

    loss: Float[Array, "..."]
    score: Float[Array, "..."]


class Recipe(NamedTuple):
    """What stays the same while a model is trained; hashable, so that a compiled epoch is compiled once.

    Attributes:
        model: a linen module with `__call__(images, *, mode)`; of its collections `params` and `batch_stats` are kept.
        optimizer: any optax transformation.
        loss: `(outputs, labels) -> losses`, one a row; of a classifier the outputs are logits. It takes what
            the model returns, and labels as the data has them.
        augment: `(key, images) -> images`, or None.
        score: a named function `(outputs, labels) -> scores`, one a row, the higher the better: it tells which epoch is
            the best.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    loss: Loss = optax.softmax_cross_entropy_with_integer_labels
    augment: Augment | None = None
    score: Score = accuracy


def train_step(
    recipe: Recipe, state: TrainState, images: Float[Array, "n ..."], labels: Labels
) -> tuple[TrainState, Metrics]:
    """Take one step on the mean loss of a batch, in batch mode; the metrics are those before the step.

    Args:
        recipe: the model, the optimizer and the loss.
        state: parameters, statistics and the optimizer's state; the keys of this step follow from its key and number.
        images: the batch.
        labels: those of its rows.

    Raises:
        ValueError: a loss or score that is not one number a row.
    """
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    augment_key, dropout_key, noise_key = jax.random.split(key, 3)
    if recipe.augment is not None:
        images = recipe.augment(augment_key, images)

    rngs = {"dropout": dropout_key, "noise": noise_key}
    of_params = jax.value_and_grad(mean_loss, has_aux=True)
    (loss, (stats, outputs)), gradient = of_params(state.params, recipe, state.stats, images, labels, rngs)
    updates, optimizer_state = recipe.optimizer.update(gradient, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = Metrics(loss, mean_over_rows("score", recipe.score(outputs, labels), labels))
    return TrainState(state.step + 1, state.key, params, stats, optimizer_state), metrics


def mean_loss(
    params: Any, recipe: Recipe, stats: Any, images: Array, labels: Array, rngs: dict[str, Array]
) -> tuple[Array, tuple[Any, Outputs]]:
    """Return the mean loss of a batch in batch mode, and beside it the updated statistics and the model's outputs.

    Args:
        params: the parameters, with respect to which it is differentiated.
        recipe: the model and the loss.
        stats: the running statistics before this batch.
        images: the batch, augmented already.
        labels: those of its rows.
        rngs: the keys of the model's random streams.

    Raises:
        ValueError: a loss that is not one number a row.
    """
    apply: Any = recipe.model.apply
    variables = {"params": params, "batch_stats": stats}
    outputs, updated = apply(variables, images, mode="batch", mutable=["batch_stats"], rngs=rngs)
    return mean_over_rows("loss", recipe.loss(outputs, labels), labels), (updated.get("batch_stats", {}), outputs)


def mean_over_rows(name: str, values: ArrayLike, labels: Labels) -> Float[Array, ""]:
    """Return the mean of a loss or score.

    Raises:
        ValueError: it is not one number a row.
    """
    values = jnp.asarray(values)
    if values.shape != labels.shape[:1]:
        raise ValueError(
            f"the {name} of {len(labels)} rows needs the shape {labels.shape[:1]}, one number a row, got "
            f"{values.shape}; do not average"
        )
    return jnp.mean(values)


def train_epoch(
    recipe: Recipe,
    state: TrainState,
    images: Float[Array, "n ..."],
    labels: Labels,
    indices: Int[Array, "steps batch_size"],
    *,
    mesh: Mesh | None = None,
) -> tuple[TrainState, Metrics]:
    """Take a step of `train_step` for every row of `indices`; the given state's memory is reused and it is gone.

    With a mesh the rows of every batch are spread over its devices; state, images and labels need to be on all of them.

    On an accelerator the whole epoch is one program (`scan_epoch`). On a CPU the steps are sent off one after another,
    without waiting for any: XLA's CPU convolutions are some 25 times slower inside of a loop (docs/performance.md).

    Returns:
        The new state and the metrics of every step, stacked.
    """
    if jax.default_backend() != "cpu":
        return scan_epoch(recipe, state, images, labels, over_rows(indices, mesh, axis=1))
    metrics = []
    for chosen in indices:
        state, measured = chosen_step(recipe, state, images, labels, over_rows(chosen, mesh))
        metrics.append(measured)
    return state, Metrics(*(jnp.asarray(jax.device_get(list(column))) for column in zip(*metrics, strict=True)))


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def chosen_step(
    recipe: Recipe, state: TrainState, images: Float[Array, "n ..."], labels: Labels, chosen: Int[Array, " b"]
) -> tuple[TrainState, Metrics]:
    """Take `train_step` on the chosen rows, compiled; the given state's memory is reused and it is gone."""
    return train_step(recipe, state, images[chosen], labels[chosen])


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def scan_epoch(
    recipe: Recipe,
    state: TrainState,
    images: Float[Array, "n ..."],
    labels: Labels,
    indices: Int[Array, "steps batch_size"],
) -> tuple[TrainState, Metrics]:
    """Take a step for every row of `indices`, as one program."""

    def step(state: TrainState, chosen: Array) -> tuple[TrainState, Metrics]:
        return chosen_step(recipe, state, images, labels, chosen)

    return jax.lax.scan(step, state, indices)


@partial(jax.jit, static_argnums=0, static_argnames="batch_size")
def evaluate(
    recipe: Recipe,
    state: TrainState,
    images: Float[Array, "n ..."],
    labels: Labels,
    *,
    batch_size: int = 256,
) -> Metrics:
    """Return mean loss and score over all rows in running mode, `batch_size` rows at a time."""

    def of_row(row: tuple[Array, Array]) -> Metrics:
        image, label = row
        outputs: Any = recipe.model.apply(state.variables, image[None], mode="running")
        made = {"loss": recipe.loss, "score": recipe.score}
        return Metrics(*(mean_over_rows(name, of(outputs, label[None]), label[None]) for name, of in made.items()))

    by_row = jax.lax.map(of_row, (images, labels), batch_size=batch_size)
    return jax.tree.map(jnp.mean, by_row)
