"""What does a Hessian's product with a vector cost, through live batch statistics, in gradients and beside PyTorch?

    python -m benchmarks.hessian_products

The mean loss of VGG-A and ResNet-18 with batch normalization in training mode on random images of 32×32×3, float32: its
gradient, one product with the Hessian, one more product at a point that was linearized before, as each step of
Lanczos' method takes it, and losses and gradients at 8 steps along the gradient. By counting products they cost 1, 3, 2
and 9 gradients. PyTorch's are its gradient, the gradient of ⟨gradient, vector⟩, the same with the graph of the gradient
kept, and 9 gradients. Timed after a warm-up, in turns; reported are medians and the smallest and largest ratio of a
turn. PyTorch is in the extra `bench`; without it its columns say so.
"""

import dataclasses
import importlib.util
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from benchmarks.turns import MEASURED, NO_TORCH, TORCH, TimingOptions, in_turns, ratios, seconds_beside
from bnjax.curvature import along_gradient, batch_loss, hessian_vector_product, linearized_gradient
from bnjax.models import VGGA, LeNet, ResNet
from bnjax.normalizers import batch_norm
from experiments.common.command import main
from experiments.common.progress import progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What each should cost, in gradients.
COUNTED = {"gradient": 1, "product": 3, "product, linearized": 2, "along the gradient": 9}
STEP_SIZES = np.geomspace(0.05, 0.4, 8).astype(np.float32)
# The largest relative difference between a product and the same of the linearization, in float32.
ROUNDING = 1e-3


@dataclass(frozen=True)
class Config(TimingOptions):
    """Time products with the Hessian of a training loss."""

    repeats: int = 5
    """Turns; each times everything once."""
    batch_size: int = 128
    """Rows of the batch."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds, of LeNet-5 alone."""
        return dataclasses.replace(self, repeats=2, batch_size=8)


def cases(config: Config) -> dict[str, tuple[nn.Module, Callable[[Any], Any], tuple[int, ...]]]:
    """Return by name the model, its counterpart in PyTorch, and the shape of an image."""
    norm = batch_norm()
    if config.smoke:
        return {"LeNet-5 v2": (LeNet(2, norm=norm), lambda models: models.LeNet(2), (28, 28, 1))}
    return {
        "VGG-A + BN": (VGGA(norm=norm), lambda models: models.VGGA(), (32, 32, 3)),
        "ResNet-18 + BN": (ResNet(norm=norm), lambda models: models.ResNet((2, 2, 2, 2), False), (32, 32, 3)),
    }


def run(config: Config) -> dict[str, Any]:
    """Time every case."""
    rows = [
        row for name, case in progress(cases(config).items(), "timing products") for row in _timed(config, name, *case)
    ]
    return {"table": rows}


def _timed(
    config: Config, name: str, model: nn.Module, counterpart: Callable[[Any], Any], shape: tuple[int, ...]
) -> list[dict[str, Any]]:
    generator = np.random.default_rng(config.seed)
    images = generator.uniform(size=(config.batch_size, *shape)).astype(np.float32)
    labels = generator.integers(0, 10, config.batch_size).astype(np.int32)
    sides = {f"bnjax, {what}": call for what, call in _ours(model, images, labels).items()}
    reason = ""
    if importlib.util.find_spec("torch") is None:
        reason = NO_TORCH
    else:
        sides |= {f"{TORCH}, {what}": call for what, call in _pytorch(counterpart, images, labels).items()}
    seconds, found = in_turns(sides, config.repeats)
    products = [found[f"bnjax, {what}"] for what in ("product", "product, linearized")]
    difference = float(optax.tree.norm(optax.tree.sub(*products)) / optax.tree.norm(products[0]))
    rows = []
    for what, counted in COUNTED.items():
        own = seconds[f"bnjax, {what}"]
        in_gradients = [one / other for one, other in zip(own, seconds["bnjax, gradient"], strict=True)]
        measured: dict[str, float | None] = dict.fromkeys(MEASURED)
        if not reason:
            measured = ratios(own, seconds[f"{TORCH}, {what}"])
        rows.append(
            {
                "case": f"{name}, {what}",
                "ours_s": statistics.median(own),
                "gradients": statistics.median(in_gradients),
                "counted": counted,
                "peer": TORCH,
                **measured,
                "difference": difference,
                "reason": reason,
            }
        )
    return rows


def _ours(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[], Any]]:
    batch = jnp.asarray(images), jnp.asarray(labels)
    variables = jax.jit(model.init)(jax.random.key(0), batch[0][:2])
    params = variables["params"]
    direction = optax.tree.random_like(jax.random.key(1), params)

    loss = batch_loss(model, variables["batch_stats"], *batch)
    gradient = jax.jit(jax.grad(loss))
    product = jax.jit(lambda params, direction: hessian_vector_product(loss, params, direction))
    linearized = jax.jit(lambda params: linearized_gradient(loss, params))(params).hessian_product
    again = jax.jit(lambda product, direction: product(direction))
    along = jax.jit(lambda params: along_gradient(loss, params, jnp.asarray(STEP_SIZES)))
    return {
        "gradient": lambda: jax.block_until_ready(gradient(params)),
        "product": lambda: jax.block_until_ready(product(params, direction)),
        "product, linearized": lambda: jax.block_until_ready(again(linearized, direction)),
        "along the gradient": lambda: jax.block_until_ready(along(params)),
    }


def _pytorch(counterpart: Callable[[Any], Any], images: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[], Any]]:
    import torch

    from benchmarks import pytorch_models

    torch.manual_seed(0)
    module = counterpart(pytorch_models)
    module.train()
    batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels.astype(np.int64))
    params = list(module.parameters())
    direction = [torch.randn_like(leaf) for leaf in params]

    def gradient(*, create_graph: bool = False) -> Any:
        loss = torch.nn.functional.cross_entropy(module(batch[0]), batch[1])
        return torch.autograd.grad(loss, params, create_graph=create_graph)

    kept = gradient(create_graph=True)

    def product() -> Any:
        return torch.autograd.grad(gradient(create_graph=True), params, direction)

    def again() -> Any:
        return torch.autograd.grad(kept, params, direction, retain_graph=True)

    def along() -> Any:
        return [gradient() for _ in range(1 + len(STEP_SIZES))]

    return {"gradient": gradient, "product": product, "product, linearized": again, "along the gradient": along}


def failures(results: dict[str, Any]) -> list[str]:
    """Return products that differ from those of the linearization."""
    return [
        f"{row['case']}: the two products differ by {row['difference']:.1e}"
        for row in results["table"]
        if not row["difference"] < ROUNDING
    ]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the seconds of both sides."""
    return {
        "seconds": seconds_beside(
            results["table"],
            title="Products with the Hessian and gradients along the gradient, batch statistics live",
            caption=f"median of {config['repeats']} turns; batches of {config['batch_size']}; float32; random images; "
            f"seed {config['seed']}",
        )
    }


if __name__ == "__main__":
    main(run, Config, name="benchmarks.hessian_products", figures=figures, failures=failures, x64=False)
