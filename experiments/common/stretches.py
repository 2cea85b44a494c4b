"""How is a network trained where what counts is steps and not epochs? In stretches of so many batches.

Networks are compared where both learn, each with the best of the published learning rates, 0.1 and 0.01 (arXiv
1805.11604), by its training loss: that is 0.1 with and without batch normalization (`experiments.performance`). At 0.1
VGG-A of width 8 without a normalizer leaves the loss of a guess on the digits after 150 to 400 steps, of batches of
64, 32 or 16 rows; after 800 of 32 rows its loss is below 0.1.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from bnjax.data import Batches
from experiments.common.networks import TrainingOptions


@dataclass(frozen=True)
class StretchOptions(TrainingOptions):
    """How a network is trained in stretches of steps, from several seeds."""

    batch_size: int = 32
    """Rows of a batch, in training and measured."""
    epochs: int = 10
    """Stretches of training; what is measured is so before the first and after each."""
    stretch: int = 80
    """Steps of a stretch."""
    learning_rate: float = 0.1
    """Learning rate of plain SGD, the same for all normalizers."""
    seeds: int = 3
    """Runs of every normalizer, with the seeds seed, seed + 1, …"""


def stretch_of_batches(
    steps: int, labels: Int[np.ndarray, " n"], batch_size: int, generator: np.random.Generator
) -> Batches:
    """Return so many batches of random rows, each without repetition.

    Raises:
        ValueError: a batch of more rows than there are.
    """
    if batch_size > len(labels):
        raise ValueError(f"--batch-size needs to be at most the {len(labels)} training images, got {batch_size}")
    rows = np.stack([generator.choice(len(labels), batch_size, replace=False) for _ in range(steps)])
    return Batches(rows, len(labels) - len(np.unique(rows)))
