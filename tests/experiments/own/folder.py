"""A folder as a user has it: a module with models of their own, data, and files that are wrong in one way each."""

from pathlib import Path
from typing import Any

import numpy as np
from flax.serialization import msgpack_serialize

# As a user has it in a file of their own.
MODULE = """
import jax.numpy as jnp
from flax import linen as nn


class Net(nn.Module):
    features: int = 4
    rate: float = 0.2

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(self.features, name="below")(x))
        x = nn.Dropout(self.rate, deterministic=not train, rng_collection="drop_path")(nn.tanh(x))
        return nn.Dense(3, name="last")(nn.LayerNorm(name="last_norm")(x))


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


class Image(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.LayerNorm()(x)


def absolute(output, label):
    return jnp.sum(jnp.abs(output)) * (1 + label)


def broken():
    raise RuntimeError("no weights")


def lookup(output, label):
    return {"loss": jnp.sum(output)}["lost"]


class Squeezing(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(1)(x)).squeeze()
        return nn.Dense(3)(x[:, None])


class Open(Net):
    @nn.compact
    def __call__(self, x, train: bool = False, **further):
        return super().__call__(x, train)


class Boxed(nn.Module):
    @nn.compact
    def __call__(self, x):
        boxed = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model"))
        return nn.Dense(3)(nn.LayerNorm(name="norm")(nn.Dense(4, kernel_init=boxed)(x)))


class Pixels(nn.Module):
    @nn.compact
    def __call__(self, x):
        if x.dtype != jnp.uint8:
            raise TypeError(f"no pixels, but {x.dtype}")
        return nn.Dense(3)(nn.LayerNorm(name="norm")(nn.Dense(4)(x / 255)))


number = 3
"""
GENERATOR = np.random.default_rng(0)
INPUTS, LABELS = GENERATOR.normal(size=(12, 5)).astype(np.float32), np.arange(12) % 3


def write_own_files(folder: Path) -> None:
    """Write `own_nets.py`, its data in `data.npz`, and what is refused."""
    (folder / "own_nets.py").write_text(MODULE)
    np.savez(folder / "data.npz", inputs=INPUTS, labels=LABELS)
    np.save(folder / "x.npy", INPUTS)
    np.save(folder / "few.npy", LABELS[:7])
    np.save(folder / "high.npy", LABELS + 1)
    np.save(folder / "real.npy", LABELS / 2)
    np.save(folder / "names.npy", np.array(["cat", "dog", "cow"])[LABELS])
    np.save(folder / "objects.npy", np.array([1, "cat", None] * 4, object))
    unclean = np.where(np.isin(np.arange(12), (3, 7))[:, None], np.nan, INPUTS)
    np.savez(folder / "unclean.npz", inputs=unclean, labels=LABELS)
    weights: dict[str, Any] = {"params/below/kernel": np.zeros((5, 7))}
    np.savez(folder / "weights.npz", **weights)
    np.savez(folder / "one.npz", params=np.zeros(3))
    (folder / "list.msgpack").write_bytes(msgpack_serialize([1, 2]))
    np.savez(folder / "image.npz", inputs=np.zeros((12, 5, 2)), labels=LABELS)
    (folder / "text.npy").write_text("no array")
