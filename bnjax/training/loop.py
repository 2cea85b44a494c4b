"""How does a whole training run go? Epoch by epoch, streamed, checkpointed, and resumed where it was killed."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Shaped

from bnjax.data import Batches, LabelledImages
from bnjax.devices import check_rows_divide, replicated
from bnjax.reporting.files import require_folder
from bnjax.reporting.locks import alone_in
from bnjax.reporting.records import write_csv
from bnjax.training.checkpoint import Checkpoints, History
from bnjax.training.checks import (
    check_batches,
    check_run,
    check_start,
    identity_of,
    record_run,
    require_same_run,
)
from bnjax.training.state import TrainState, initial_state
from bnjax.training.step import Metrics, Recipe, evaluate, train_epoch

CHECKPOINTS = "checkpoints"
Order = Callable[[Shaped[np.ndarray, "n ..."], int, np.random.Generator], Batches]


class LossNotFiniteError(ArithmeticError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""


class Trained(NamedTuple):
    """A finished run.

    Attributes:
        state: the state after the last epoch.
        history: a row for every epoch: `epoch`, `train_loss`, `train_accuracy` (means over the epoch's batches),
            `test_loss`, `test_accuracy` (running mode) and `dropped` (training rows in no batch). Another score of the
            recipe than `accuracy` has its own name there.
    """

    state: TrainState
    history: History


def train(
    recipe: Recipe,
    train_data: LabelledImages,
    test_data: LabelledImages,
    *,
    order: Order,
    batch_size: int,
    epochs: int,
    seed: int = 0,
    start: TrainState | None = None,
    directory: str | Path | None = None,
    mesh: Mesh | None = None,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    observe: Callable[[int, TrainState], None] = lambda *_: None,
) -> Trained:
    """Train for some epochs, without a stop inside of any.

    With a `directory` every epoch is checkpointed there and `metrics.csv` grows as it goes. Called again with the same
    arguments after having been killed at any moment, it goes on from the last complete epoch, and ends with the same
    bits in state and history as a run that was never stopped.

    Args:
        recipe: model, optimizer, loss and augmentation.
        train_data: the training images, kept on the device.
        test_data: images to evaluate after every epoch.
        order: `random_batches` or `single_class_batches`, or one of them with its option,
            `functools.partial(order, remainder="wrap")`; the order of an epoch follows from seed and epoch.
        batch_size: rows of a batch.
        epochs: how many epochs in all.
        seed: the seed of everything random: weights, order, dropout, noise, augmentation.
        start: the state before the first step; by default the initial one of this seed. To fine-tune a network,
            `initial_state(recipe.model, recipe.optimizer, jax.random.key(seed), images)._replace(params=trained.params,
            stats=trained.stats)`, with `trained` the state of a finished run. It stays as it is.
        directory: the run's folder; None keeps nothing. One run at a time may use it.
        mesh: the devices over which the rows of every training batch are spread, of `bnjax.devices.row_mesh`; its
            statistics are those of the whole batch. All else is on every device.
        report: called with each epoch's row of the history.
        observe: called with epoch and state before the first epoch (as 0) and after every one, unless an earlier call
            saved it; the state's memory is used again afterwards. What it keeps in files is whole: an epoch is saved
            once it was observed.

    Raises:
        LossNotFiniteError: a loss or a parameter became NaN or infinite.
        BlockingIOError: another run is using the folder.
        NotADirectoryError: the folder, or one that it is to lie in, is a file.
        OSError: the folder can't be written, or its disk is full.
        TypeError: a recipe that is not hashable, numbers that are no integers, a start that is no state.
        ValueError: a batch size that the devices don't divide, a start made with another optimizer, images and labels
            that do not fit together, batches of rows that there are not, a loss or score that is not one number a row,
            and a folder that holds another run or one of more epochs. Runs are told apart by model, data, batch size,
            seed, the names of loss, score and augmentation, the batches that the order gives for one seed, the
            optimizer's first three steps, and the numbers in `start`.
    """
    check_run(recipe, train_data, test_data, batch_size=batch_size, epochs=epochs, seed=seed)
    check_rows_divide(jax.ShapeDtypeStruct((batch_size,), int), mesh)
    if start is not None:
        check_start(recipe, start)
    directory = Path(directory) if directory else None
    if directory:
        require_folder(directory)
    with alone_in(directory) if directory else nullcontext():
        identity = None
        if directory:
            identity = identity_of(
                recipe, train_data, test_data, order=order, batch_size=batch_size, seed=seed, start=start
            )
            _require_resumable(directory, identity, recipe, epochs)
        train_images, train_labels = replicated((train_data.images, train_data.labels), mesh)
        test_images, test_labels = replicated((test_data.images, test_data.labels), mesh)
        if start is None:
            state = initial_state(recipe.model, recipe.optimizer, jax.random.key(seed), train_images[:2])
        else:
            state = jax.tree.map(jnp.copy, start)  # The first step reuses its memory.
        state = replicated(state, mesh)
        history: History = []
        score = recipe.score.__name__
        checkpoints = Checkpoints(directory / CHECKPOINTS, best_by=f"test_{score}") if directory else None
        if checkpoints and directory and checkpoints.epochs():
            state, history = checkpoints.restore(state)
            write_csv(directory / "metrics.csv", history)  # It may have been killed just before.

        if not history:
            observe(0, state)
        for epoch in range(len(history) + 1, epochs + 1):
            batches = order(train_data.labels, batch_size, np.random.default_rng([seed, epoch]))
            check_batches(batches, len(train_data.labels))
            indices = jnp.asarray(batches.indices)
            state, steps = train_epoch(recipe, state, train_images, train_labels, indices, mesh=mesh)
            test = evaluate(recipe, state, test_images, test_labels)
            _require_finite(steps.loss, state, test, epoch, directory)
            row = _row(epoch, score, steps, test, batches.dropped)
            history = [*history, row]
            # Before it is saved: what is saved was observed, also if the run is killed in between.
            observe(epoch, state)
            if checkpoints and directory and identity:
                record_run(directory, identity)  # Not before there is something to go on from.
                checkpoints.save(epoch, state, history)
                write_csv(directory / "metrics.csv", history)
            report(row)
        return Trained(state, history)


def _row(epoch: int, score: str, steps: Metrics, test: Metrics, dropped: int) -> dict[str, Any]:
    """Return an epoch's row of the history."""
    return {
        "epoch": epoch,
        "train_loss": float(jnp.mean(steps.loss)),
        f"train_{score}": float(jnp.mean(steps.score)),
        "test_loss": float(test.loss),
        f"test_{score}": float(test.score),
        "dropped": dropped,
    }


def require_resumable(
    directory: Path,
    recipe: Recipe,
    train_data: LabelledImages,
    test_data: LabelledImages,
    *,
    order: Order,
    batch_size: int,
    epochs: int,
    seed: int,
    start: TrainState | None = None,
) -> None:
    """Raise ValueError if a folder holds another run than `train` would make in it, or one of more epochs.

    Nothing is written: where several networks are to be trained, all their folders can be looked at before the first.
    Arguments as in `train`.
    """
    identity = identity_of(recipe, train_data, test_data, order=order, batch_size=batch_size, seed=seed, start=start)
    _require_resumable(directory, identity, recipe, epochs)


def _require_resumable(directory: Path, identity: dict[str, Any], recipe: Recipe, epochs: int) -> None:
    require_same_run(directory, identity)
    if not (directory / CHECKPOINTS).is_dir():
        return
    held = Checkpoints(directory / CHECKPOINTS, best_by=f"test_{recipe.score.__name__}").epochs()
    if held and held[-1] > epochs:
        raise ValueError(f"epochs needs to be at least the {held[-1]} that {directory} holds, got {epochs}")


def _require_finite(losses: jax.Array, state: TrainState, test: Metrics, epoch: int, directory: Path | None) -> None:
    finite = np.isfinite(np.asarray(losses))
    whole = all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves((state.params, state.stats, test)))
    if finite.all() and whole:
        return
    kept = f"; the checkpoint of epoch {epoch - 1} in {directory} is kept" if directory and epoch > 1 else ""
    if finite.all():
        what = f"parameters, test loss and score that are not all finite after epoch {epoch}"
    else:
        step = int(np.argmin(finite))
        what = f"{float(losses[step])} in epoch {epoch}, step {step + 1} of {len(finite)}"
    remedy = "look at images and labels" if epoch == 1 and not finite[0] else "lower the learning rate"
    raise LossNotFiniteError(f"the loss needs to stay finite, got {what}{kept}; {remedy}")
