"""Can this run be trained, and is it the one that a folder holds? What is checked before the first step."""

import hashlib
import json
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bnjax.compilation import jit_once
from bnjax.data import Batches, LabelledImages
from bnjax.integers import check_integers
from bnjax.reporting.files import write_text
from bnjax.training.state import TrainState, digest, initial_state
from bnjax.training.step import Recipe

RUN_FILE = "run.json"


def check_run(
    recipe: Recipe, train_data: LabelledImages, test_data: LabelledImages, *, batch_size: int, epochs: int, seed: int
) -> None:
    """Raise unless recipe, data and numbers fit together.

    Raises:
        TypeError: a recipe that is not hashable, and numbers that are no integers.
        ValueError: a score without a name, images and labels of different number or none, training and test images of
            different shape, images that are not finite floats, labels that are no classes of the data or, of more than
            one number a row, not finite, and numbers out of range.
    """
    check_integers(batch_size=batch_size, epochs=epochs, seed=seed)
    for name, value, least in (("batch_size", batch_size, 1), ("epochs", epochs, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} needs to be at least {least}, got {value}")
    if getattr(recipe.score, "__name__", "loss") == "loss":
        raise ValueError(f"score needs to be a function with a name of its own, which metrics get, got {recipe.score}")
    try:
        hash(recipe)
    except TypeError as error:
        raise TypeError(f"a recipe needs to be hashable: {error}; give the model tuples in place of lists") from None
    for part, data in (("training", train_data), ("test", test_data)):
        _check_data(part, data, train_data.classes)
    shapes = [np.shape(data.images)[1:] for data in (train_data, test_data)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"training and test images need to be of one shape, got {shapes[0]} and {shapes[1]}")


def _check_data(part: str, data: LabelledImages, classes: int) -> None:
    images, labels = np.asarray(data.images), np.asarray(data.labels)
    if len(images) != len(labels) or len(labels) == 0:
        raise ValueError(f"the {part} data needs as many images as labels, got {len(images)} and {len(labels)}")
    if not np.issubdtype(images.dtype, np.floating) or not np.isfinite(images).all():
        raise ValueError(
            f"the {part} images need to be finite floating-point numbers, got dtype {images.dtype}"
            + (" with NaN or infinity" if np.issubdtype(images.dtype, np.floating) else "; divide by 255?")
        )
    if labels.ndim > 1:
        if not np.isfinite(labels).all():
            raise ValueError(f"the {part} labels need to be finite, got some that are not")
    elif labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"the {part} labels need to be from 0 to {classes - 1}, got some from {labels.min()} to {labels.max()}"
        )


def check_start(recipe: Recipe, start: Any) -> None:
    """Raise TypeError unless a run's first state is one, and ValueError unless it is of the recipe's optimizer."""
    if not isinstance(start, TrainState):
        raise TypeError(
            f"start needs to be a TrainState, got {type(start).__name__}; take the state of a finished run, or "
            "initial_state(…)._replace(params=…, stats=…)"
        )
    expected = jax.eval_shape(recipe.optimizer.init, start.params)
    if jax.tree.structure(expected) != jax.tree.structure(start.optimizer_state):
        raise ValueError(
            "start needs the state of the recipe's own optimizer, got that of another; take "
            "initial_state(recipe.model, recipe.optimizer, …)._replace(params=start.params, stats=start.stats)"
        )


def check_batches(batches: Batches, rows: int) -> None:
    """Raise ValueError unless an epoch has a batch, and all of its rows exist; JAX itself would take others instead."""
    indices = np.asarray(batches.indices)
    if indices.ndim != 2 or not indices.size:
        raise ValueError(f"an epoch's order needs to be rows (steps, batch_size), got the shape {indices.shape}")
    if indices.min() < 0 or indices.max() >= rows:
        raise ValueError(
            f"an epoch's order needs rows from 0 to {rows - 1}, got some from {indices.min()} to {indices.max()}"
        )


def identity_of(
    recipe: Recipe,
    train_data: LabelledImages,
    test_data: LabelledImages,
    *,
    order: Callable[..., Any],
    batch_size: int,
    seed: int,
    start: TrainState | None = None,
) -> dict[str, Any]:
    """Return what tells one run from another, as far as it can be written down.

    Functions are told apart by their names and given options, the order of batches by those it gives for the seed 0,
    and the optimizer by its first three steps: a schedule that begins alike is not seen to differ. What a given start
    says is a digest of its numbers.
    """
    batches = np.asarray(order(train_data.labels, batch_size, np.random.default_rng(0)).indices, np.int64)
    return {
        "model": repr(recipe.model),
        "optimizer": _first_steps(recipe, train_data.images[:2]),
        "loss, augmentation, score": [_name(made) for made in (recipe.loss, recipe.augment, recipe.score)],
        "order": hashlib.sha256(batches.tobytes()).hexdigest()[:12],
        "training images": _contents(train_data),
        "test images": _contents(test_data),
        "batch_size": int(batch_size),  # JSON takes none of NumPy's.
        "seed": int(seed),
        "start": None if start is None else digest(start),
    }


def _contents(data: LabelledImages) -> list[Any]:
    """Return name and shape of images, and a checksum of them with their labels."""
    checksum = zlib.crc32(np.ascontiguousarray(data.labels).data, zlib.crc32(np.ascontiguousarray(data.images).data))
    return [data.name, *np.shape(data.images), f"{checksum:08x}"]


def _first_steps(recipe: Recipe, images: np.ndarray) -> list[str]:
    """Return the lengths of an optimizer's first steps on a single number in place of every parameter."""
    state = jax.eval_shape(partial(initial_state, recipe.model, recipe.optimizer), jax.random.key(0), images)
    params = jax.tree.map(lambda leaf: np.full((1,) * leaf.ndim, 0.5, leaf.dtype), state.params)
    return [f"{length:.4g}" for length in np.asarray(_lengths(recipe.optimizer, params))]


@partial(jit_once, static_argnames="optimizer")
def _lengths(optimizer: optax.GradientTransformation, params: Any) -> jax.Array:
    def step(carried: tuple[Any, Any], slope: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        params, state = carried
        gradient = jax.tree.map(lambda leaf: jnp.full_like(leaf, slope), params)
        moved, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, moved), state), optax.tree.norm(moved)

    return jax.lax.scan(step, (params, optimizer.init(params)), jnp.array([0.1, -0.2, 0.4]))[1]


def _name(made: Any) -> str:
    """Return the name of a function and the options that were bound to it, without its place in memory."""
    if isinstance(made, partial):
        bound = [*map(_name, made.args), *(f"{key}={_name(value)}" for key, value in made.keywords.items())]
        return f"{_name(made.func)}({', '.join(bound)})"
    return getattr(made, "__qualname__", repr(made))


def require_same_run(directory: Path, identity: dict[str, Any]) -> None:
    """Raise ValueError if a folder is for another run, by its `run.json`; a folder without one is for any."""
    path = directory / RUN_FILE
    if not path.exists():
        return
    try:
        held = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove {directory} to train anew") from None
    differing = [
        f"{key} {held.get(key)!r} instead of {value!r}" for key, value in identity.items() if held.get(key) != value
    ]
    if differing:
        raise ValueError(
            f"{directory} holds another run, with {'; '.join(differing)}; choose another folder or remove it"
        )


def record_run(directory: Path, identity: dict[str, Any]) -> None:
    """Write what a run folder is for, as `run.json`; one that is there says so already (`require_same_run`)."""
    if (directory / RUN_FILE).exists():
        return
    write_text(directory / RUN_FILE, json.dumps(identity, indent=1))
