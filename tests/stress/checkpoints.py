"""The checkpoints of a run that took no training."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.training.checkpoint import Checkpoints
from bnjax.training.state import TrainState


def state_after(epoch: int) -> TrainState:
    weights = {"kernel": jnp.asarray(np.random.default_rng(epoch).normal(size=(32, 8)))}
    return TrainState(jnp.array(epoch), jnp.zeros(2, jnp.uint32), weights, {"mean": jnp.ones(8)}, (weights,))


def history_after(epoch: int) -> list[dict]:
    """Return a history whose first epoch is the best of the first three."""
    return [{"epoch": number, "test_accuracy": 1 / number} for number in range(1, epoch + 1)]


def written(directory: Path, epochs: int) -> Path:
    checkpoints = Checkpoints(directory)
    for epoch in range(1, epochs + 1):
        checkpoints.save(epoch, state_after(epoch), history_after(epoch))
    return directory


def restored_epoch(directory: Path) -> int:
    """Return the epoch that a run would go on from, of which all numbers are those that were written."""
    state, history = Checkpoints(directory).restore(state_after(0))
    jax.tree.map(np.testing.assert_array_equal, state, state_after(len(history)))
    assert history == history_after(len(history))
    return len(history)
