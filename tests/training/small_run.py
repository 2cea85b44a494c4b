"""A small training run with everything random in it, as a module: `python -m tests.training.small_run DIR EPOCHS`."""

import sys
from pathlib import Path

import jax
import optax
from flax import linen as nn

from bnjax.data import digits, random_batches, random_crop
from bnjax.models import Normalization
from bnjax.normalizers import noisy_batch_norm
from bnjax.normalizers.normalizer import Mode
from bnjax.training import Recipe, Trained, train


class NoisyNetwork(nn.Module):
    """Linear → noisy batch norm → ReLU → dropout → Linear."""

    @nn.compact
    def __call__(self, images, *, mode: Mode = "batch"):
        x = nn.Dense(16)(images.reshape(len(images), -1))
        x = nn.relu(Normalization(noisy_batch_norm())(x, mode=mode))
        return nn.Dense(10)(nn.Dropout(0.2, deterministic=mode == "running")(x))


RECIPE = Recipe(NoisyNetwork(), optax.adam(1e-2), augment=lambda key, images: random_crop(key, images, padding=1))


def small_run(directory: Path | None, epochs: int) -> Trained:
    """Train, and go on where an earlier call in the same folder was killed."""
    data = digits(train=True, train_images=256)
    return train(RECIPE, data, data, order=random_batches, batch_size=32, epochs=epochs, seed=3, directory=directory)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    small_run(Path(sys.argv[1]), int(sys.argv[2]))
