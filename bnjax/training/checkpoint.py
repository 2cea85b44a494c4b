"""How does a run survive being killed? Atomic checkpoints of the last and the best epoch, by orbax."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as orbax
from orbax.checkpoint import checkpoint_managers as managers

from bnjax.reporting.errors import said
from bnjax.training.state import TrainState, digest

History = list[dict[str, Any]]


class Checkpoints:
    """The checkpoints of one run: state and history after an epoch, of the last epoch and of the best.

    A checkpoint gets its name when it is complete; one that a killed process left half-written is never read.
    """

    def __init__(self, directory: Path, *, best_by: str = "test_accuracy"):
        """Open the folder, and make it if it is not there.

        Args:
            directory: the folder.
            best_by: the key in a row of the history that is highest for the best epoch.
        """

        def score(metrics: dict[str, Any]) -> float:
            return metrics[best_by]

        best_and_last = managers.AnyPreservationPolicy([managers.LatestN(1), managers.BestN(get_metric_fn=score, n=1)])
        options = orbax.CheckpointManagerOptions(
            preservation_policy=best_and_last,
            best_fn=score,  # Without it orbax does not write the metrics.
            enable_async_checkpointing=False,
        )
        self._directory = directory.absolute()
        try:
            self._manager = orbax.CheckpointManager(self._directory, options=options)
        except ValueError as error:
            kept = [int(path.name) for path in self._directory.iterdir() if path.name.isdecimal()]
            if not kept:
                raise
            raise _damaged(self._directory / str(max(kept)), error) from error

    def save(self, epoch: int, state: TrainState, history: History) -> None:
        """Write the state after `epoch` with the history up to it; whole or not at all.

        Raises:
            OSError: the disk is full, or can't be written.
        """
        entries = {"epochs": history, "state": digest(state)}
        items = orbax.args.Composite(state=orbax.args.StandardSave(state), history=orbax.args.JsonSave(entries))
        try:
            self._manager.save(epoch, args=items, metrics=history[-1], force=True)
        except (OSError, ValueError) as error:
            raise OSError(
                f"epoch {epoch} can't be kept in {self._directory}: {said(error)}; make room and run it again in the "
                "same folder: it goes on from the epoch before"
            ) from error

    def epochs(self) -> list[int]:
        """Return the epochs that there are checkpoints of."""
        return sorted(self._manager.all_steps())

    def restore(self, like: TrainState, epoch: int | None = None) -> tuple[TrainState, History]:
        """Return the state and the history after `epoch`, by default the last one.

        Args:
            like: a state of the same shapes and dtypes.
            epoch: one of `epochs()`.

        Raises:
            ValueError: the checkpoint is damaged.
        """
        step = self._manager.latest_step() if epoch is None else epoch
        abstract = jax.tree.map(orbax.utils.to_shape_dtype_struct, like)
        items = orbax.args.Composite(state=orbax.args.StandardRestore(abstract), history=orbax.args.JsonRestore())
        try:
            restored = self._manager.restore(step, args=items)
            state, history = restored["state"], restored["history"]
            if history.get("state") not in (None, digest(state)):  # None is of an earlier version.
                raise ValueError("other numbers than were written")
        except Exception as error:  # Orbax and TensorStore have many, one of them Exception itself.
            raise _damaged(self._directory / str(step), error) from error
        return state, history["epochs"]


def _damaged(folder: Path, error: Exception) -> ValueError:
    return ValueError(
        f"the checkpoint {folder} is damaged ({said(error)}); remove it to go on from an earlier one, or all of "
        f"{folder.parent} to train anew"
    )
