"""Training of any model that takes images and a mode: compiled epochs, resumable to the last bit."""

from bnjax.training.checkpoint import Checkpoints
from bnjax.training.loop import LossNotFiniteError, Order, Trained, require_resumable, train
from bnjax.training.state import TrainState, initial_state
from bnjax.training.step import Metrics, Recipe, accuracy, evaluate, mean_loss, train_epoch, train_step

__all__ = [
    "Checkpoints",
    "LossNotFiniteError",
    "Metrics",
    "Order",
    "Recipe",
    "TrainState",
    "Trained",
    "accuracy",
    "evaluate",
    "initial_state",
    "mean_loss",
    "require_resumable",
    "train",
    "train_epoch",
    "train_step",
]
