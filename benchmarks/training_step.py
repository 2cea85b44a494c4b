"""How fast is a training step, beside PyTorch doing the same work?

    python -m benchmarks.training_step

SGD with momentum on random images of the published sizes, float32: a step of VGG-A and of ResNet-18 with batch
normalization on 128 images of 32×32×3, and an epoch of LeNet-5 on 17,435 images of 28×28 in batches of 128. Both sides
gather each batch from arrays in memory. Timed after a warm-up, in turns; reported are medians and the smallest and
largest ratio of a turn. PyTorch is in the extra `bench`; without it its rows say so.
"""

import dataclasses
import importlib.util
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from benchmarks.turns import MEASURED, in_turns, ratios
from bnjax.models import VGGA, LeNet, ResNet
from bnjax.normalizers import batch_norm
from bnjax.training import Recipe, initial_state, train_epoch
from experiments.command import Options, main, progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TORCH = "torch"


@dataclass(frozen=True)
class Config(Options):
    """Time training steps side by side with PyTorch."""

    repeats: int = 5
    """Turns; each times both sides once."""
    batch_size: int = 128
    """Rows of a batch."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds, of LeNet-5 alone."""
        return dataclasses.replace(self, repeats=2, batch_size=16)


class Case(NamedTuple):
    """A network on both sides, and what it is trained on."""

    model: nn.Module
    counterpart: Callable[[Any], Any]
    shape: tuple[int, ...]
    images: int


def cases(config: Config) -> dict[str, Case]:
    """Return the cases by name."""
    norm = batch_norm()
    lenet = Case(LeNet(2, norm=norm), lambda models: models.LeNet(2), (28, 28, 1), 64 if config.smoke else 17_435)
    if config.smoke:
        return {"LeNet-5 v2, an epoch": lenet}
    size = (32, 32, 3)
    return {
        "VGG-A + BN, a step": Case(VGGA(norm=norm), lambda models: models.VGGA(), size, config.batch_size),
        "ResNet-18 + BN, a step": Case(
            ResNet(norm=norm), lambda models: models.ResNet((2, 2, 2, 2), False), size, config.batch_size
        ),
        "LeNet-5 v2, an epoch": lenet,
    }


def run(config: Config) -> dict[str, Any]:
    """Time every case."""
    return {"table": [_timed(config, name, case) for name, case in progress(cases(config).items(), "timing steps")]}


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the seconds of both sides for every case."""
    from bnjax.reporting.figures import dots

    rows = [
        {"case": row["case"], "what": what, "seconds": row[key]}
        for row in results["table"]
        for what, key in (("bnjax", "ours_s"), (TORCH, "peer_s"))
        if row[key] is not None
    ]
    return {
        "seconds": dots(
            rows,
            name="case",
            value="seconds",
            series="what",
            name_label="what is timed",
            value_label="seconds",
            floor=1e-4,
            title="A training step beside PyTorch's",
            caption=f"median of {config['repeats']} turns; batches of {config['batch_size']}; float32; random images; "
            f"seed {config['seed']}",
        )
    }


def failures(results: dict[str, Any]) -> list[str]:
    """Return losses that are not finite."""
    return [f"{row['case']}: loss {row['loss']}" for row in results["table"] if not np.isfinite(row["loss"])]


def _timed(config: Config, name: str, case: Case) -> dict[str, Any]:
    generator = np.random.default_rng(config.seed)
    images = generator.standard_normal((case.images, *case.shape)).astype(np.float32)
    labels = generator.integers(0, 10, case.images).astype(np.int32)
    steps = max(1, case.images // config.batch_size)
    indices = generator.permutation(case.images)[: steps * config.batch_size].reshape(steps, -1)
    sides = {"bnjax": _ours(case.model, images, labels, indices)}
    reason = ""
    if importlib.util.find_spec("torch") is None:
        reason = "PyTorch is not installed: pip install -e '.[bench]'"
    else:
        sides[TORCH] = _pytorch(case.counterpart, images, labels, indices)

    seconds, losses = in_turns(sides, config.repeats)
    measured: dict[str, float | None] = dict.fromkeys(MEASURED)
    if TORCH in sides:
        measured = ratios(seconds["bnjax"], seconds[TORCH])
    ours = statistics.median(seconds["bnjax"])
    return {"case": name, "ours_s": ours, "peer": TORCH, **measured, "loss": losses["bnjax"], "reason": reason}


def _ours(model: nn.Module, images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> Callable[[], float]:
    recipe = Recipe(model, optax.sgd(0.01, 0.9))
    data = jnp.asarray(images), jnp.asarray(labels), jnp.asarray(indices)
    state = initial_state(recipe.model, recipe.optimizer, jax.random.key(0), data[0][:2])

    def call() -> float:
        nonlocal state
        state, metrics = train_epoch(recipe, state, *data)
        return float(jax.block_until_ready(metrics.loss)[-1])

    return call


def _pytorch(build: Callable, images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> Callable[[], float]:
    import torch

    from benchmarks import pytorch_models

    torch.manual_seed(0)
    module = build(pytorch_models).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    data = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels.astype(np.int64))
    batches = torch.from_numpy(indices)

    def call() -> float:
        loss = torch.zeros(())
        for rows in batches:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(module(data[0][rows]), data[1][rows])
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    return call


if __name__ == "__main__":
    main(run, Config, name="benchmarks.training_step", figures=figures, failures=failures, x64=False)
