"""How fast is a training step, beside PyTorch doing the same work?

    python -m benchmarks.training_step

Random images of the published sizes, float32: a step of VGG-A and ResNet-18 with batch normalization on 128 images of
32×32×3, an epoch of LeNet-5 on 17,435 images of 28×28 in batches of 128, and a step of RealNVP (width 64, 8 blocks) on
64 images of 28×28; SGD with momentum, for the flow Adamax. Both sides gather each batch from arrays in memory. Timed
after a warm-up, in turns; reported are medians and the smallest and largest ratio of a turn. PyTorch is in the extra
`bench`; without it its rows say so.
"""

import dataclasses
import importlib.util
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from benchmarks.turns import MEASURED, NO_TORCH, TORCH, TimingOptions, in_turns, ratios, seconds_beside
from bnjax.models import VGGA, LeNet, ResNet
from bnjax.models.flow import RealNVP, log_likelihood, negative_log_likelihood
from bnjax.normalizers import batch_norm
from bnjax.training import Recipe, initial_state, train_epoch
from experiments.common.command import main
from experiments.common.progress import progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Config(TimingOptions):
    """Time training steps side by side with PyTorch."""

    repeats: int = 5
    """Turns; each times both sides once."""
    batch_size: int = 128
    """Rows of a classifier's batch."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds, of LeNet-5 alone."""
        return dataclasses.replace(self, repeats=2, batch_size=16)


class Peer(NamedTuple):
    """The same training in PyTorch: a module, what it minimizes, and by what."""

    module: Any
    loss: Callable[[Any, Any, Any], Any]
    optimizer: Any


class Case(NamedTuple):
    """A training on both sides, and on what."""

    recipe: Recipe
    peer: Callable[[], Peer]
    shape: tuple[int, ...]
    images: int
    batch_size: int


def cases(config: Config) -> dict[str, Case]:
    """Return the cases by name."""
    norm, size, rows = batch_norm(), (32, 32, 3), config.batch_size

    def classifier(model: nn.Module, counterpart: Callable[[Any], Any], shape: tuple[int, ...], images: int) -> Case:
        return Case(Recipe(model, optax.sgd(0.01, 0.9)), partial(_classifier, counterpart), shape, images, rows)

    lenet = LeNet(2, norm=norm), lambda models: models.LeNet(2), (28, 28, 1)
    if config.smoke:
        return {"LeNet-5 v2, an epoch": classifier(*lenet, 64)}
    flow = Recipe(RealNVP(), optax.adamax(1e-3, eps=1e-7), negative_log_likelihood, None, log_likelihood)
    return {
        "VGG-A + BN, a step": classifier(VGGA(norm=norm), lambda models: models.VGGA(), size, rows),
        "ResNet-18 + BN, a step": classifier(
            ResNet(norm=norm), lambda models: models.ResNet((2, 2, 2, 2), False), size, rows
        ),
        "LeNet-5 v2, an epoch": classifier(*lenet, 17_435),
        "RealNVP + BN, a step": Case(flow, _flow, (28, 28, 1), 64, 64),
    }


def _classifier(counterpart: Callable[[Any], Any]) -> Peer:
    import torch

    from benchmarks import pytorch_models

    module = counterpart(pytorch_models)

    def loss(module: Any, images: Any, labels: Any) -> Any:
        return torch.nn.functional.cross_entropy(module(images), labels)

    return Peer(module, loss, torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9))


def _flow() -> Peer:
    import torch

    from benchmarks import pytorch_flow

    module = pytorch_flow.RealNVP(1, 64, 8)
    optimizer = torch.optim.Adamax(module.parameters(), lr=1e-3, eps=1e-7)
    return Peer(module, lambda module, images, _: -module(images).mean(), optimizer)


def run(config: Config) -> dict[str, Any]:
    """Time every case."""
    return {"table": [_timed(config, name, case) for name, case in progress(cases(config).items(), "timing steps")]}


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the seconds of both sides for every case."""
    return {
        "seconds": seconds_beside(
            results["table"],
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
    images = generator.uniform(size=(case.images, *case.shape)).astype(np.float32)
    labels = generator.integers(0, 10, case.images).astype(np.int32)
    steps = max(1, case.images // case.batch_size)
    indices = generator.permutation(case.images)[: steps * case.batch_size].reshape(steps, -1)
    sides = {"bnjax": _ours(case.recipe, images, labels, indices)}
    reason = ""
    if importlib.util.find_spec("torch") is None:
        reason = NO_TORCH
    else:
        sides[TORCH] = _pytorch(case.peer, images, labels, indices)

    seconds, losses = in_turns(sides, config.repeats)
    measured: dict[str, float | None] = dict.fromkeys(MEASURED)
    if TORCH in sides:
        measured = ratios(seconds["bnjax"], seconds[TORCH])
    ours = statistics.median(seconds["bnjax"])
    return {"case": name, "ours_s": ours, "peer": TORCH, **measured, "loss": losses["bnjax"], "reason": reason}


def _ours(recipe: Recipe, images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> Callable[[], float]:
    data = jnp.asarray(images), jnp.asarray(labels), jnp.asarray(indices)
    state = initial_state(recipe.model, recipe.optimizer, jax.random.key(0), data[0][:2])

    def call() -> float:
        nonlocal state
        state, metrics = train_epoch(recipe, state, *data)
        return float(jax.block_until_ready(metrics.loss)[-1])

    return call


def _pytorch(
    peer: Callable[[], Peer], images: np.ndarray, labels: np.ndarray, indices: np.ndarray
) -> Callable[[], float]:
    import torch

    torch.manual_seed(0)
    module, loss_of, optimizer = peer()
    module.train()
    data = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels.astype(np.int64))
    batches = torch.from_numpy(indices)

    def call() -> float:
        loss = torch.zeros(())
        for rows in batches:
            optimizer.zero_grad()
            loss = loss_of(module, data[0][rows], data[1][rows])
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    return call


if __name__ == "__main__":
    main(run, Config, name="benchmarks.training_step", figures=figures, failures=failures, x64=False)
