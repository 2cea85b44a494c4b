"""Which batches make a stretch of training, where what counts is steps and not epochs?"""

import numpy as np
from jaxtyping import Int

from bnjax.data import Batches


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
