"""Is it the live statistics that block? Training with them, with frozen and with detached ones.

    python -m experiments.frozen_statistics

Linear(d→1) · BN(ε = 0), loss `-3 ŷ²` summed over the batch. With live statistics `Σ ŷ² = n` whatever the weights: the
gradient is zero and nothing moves. With statistics frozen from the first batch, or detached from the derivative, the
same loss moves the weights.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from bnjax.normalizers import batch_norm, detached_batch_norm, frozen_batch_norm
from bnjax.normalizers.normalizer import Normalizer
from experiments.common.claim import BLINDNESS, Claim, verdict, with_spread
from experiments.common.command import main
from experiments.common.options import Options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATISTICS = {
    "live": batch_norm(epsilon=0.0, affine=False),
    "frozen": frozen_batch_norm(epsilon=0.0, affine=False),
    "detached": detached_batch_norm(epsilon=0.0, affine=False),
}
NOTES = (
    "first_loss, last_loss: −3 Σ ŷ² over the n rows of the first and of the last step's batch, mean over the "
    "initializations. It is negative, and the lower, the larger Σ ŷ² is.",
    "live and detached: with its own batch's statistics Σ ŷ² = n whatever the weights, so that the loss stays at −3n. "
    "Detached statistics differ in the derivative alone: every step lengthens the weights, and the statistics of the "
    "next batch divide that out again.",
    "frozen: with the statistics of an earlier batch, Σ ŷ² of Gaussian inputs is n (n + 1) / (n − 3) in the mean (for "
    "n > 3), with a wide spread, and not n, before the first step; then it grows with the weights, and the loss falls.",
)


@dataclass(frozen=True)
class Config(Options):
    """Train one linear layer below BN with live, frozen and detached statistics."""

    least: ClassVar[Mapping[str, int]] = {**Options.least, "rows": 2}

    rows: int = 64
    """Gaussian inputs of a batch, drawn anew at each step."""
    inputs: int = 8
    """Inputs d of the linear layer."""
    steps: int = 50
    """Steps of plain SGD."""
    learning_rate: float = 1e-4
    """Learning rate; the loss is a sum over the batch."""
    seeds: int = 10
    """Initializations; the mean and the spread over them are reported."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, rows=16, steps=5, seeds=2)


def run(config: Config) -> dict[str, Any]:
    """Train with each kind of statistics from the same initializations on the same batches."""
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    curves, table = [], []
    for name, normalizer in STATISTICS.items():
        train = jax.jit(jax.vmap(partial(_train, normalizer, config)))
        moved, gradient_norms, losses = history = np.asarray(train(keys))
        if not np.isfinite(history).all():
            raise ArithmeticError(
                f"weights and loss need to stay finite, got some that do not with {name} statistics; "
                "lower --learning-rate"
            )
        curves += [
            {
                "statistics": name,
                "step": step + 1,
                "moved": float(moved[:, step].mean()),
                "moved_std": float(moved[:, step].std()),
            }
            for step in range(config.steps)
        ]
        table.append(
            {
                "statistics": name,
                "first_gradient_norm": float(gradient_norms[:, 0].mean()),
                "largest_gradient_norm": float(gradient_norms.max()),
                "weights_moved": float(moved[:, -1].mean()),
                "weights_moved_std": float(moved[:, -1].std()),
                "first_loss": float(losses[:, 0].mean()),
                "last_loss": float(losses[:, -1].mean()),
                "seeds": config.seeds,
            }
        )
    return {"table": table, "curves": curves, "notes": NOTES}


def failures(results: dict[str, Any]) -> list[str]:
    """Return what contradicts the theory: live statistics that let the loss move, or others that don't."""
    return [
        f"{row['statistics']} statistics: the weights moved by {row['weights_moved']:.1e} of their length"
        for row in results["table"]
        if not _as_claimed(row)
    ]


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of the paper's claim on the cause."""
    moved = (
        f"{with_spread(row['weights_moved'], row['weights_moved_std'])} ({row['statistics']})"
        for row in results["table"]
    )
    return [
        Claim(
            paper=BLINDNESS,
            place="abstract",
            claim="The statistics of the batch are the cause: with them a quadratic loss moves no weight below, with "
            "statistics held constant it does.",
            ours=f"weights moved, of their length: {', '.join(moved)}",
            n=f"{config['seeds']} initializations, {config['steps']} steps of {config['rows']} Gaussian rows",
            verdict=verdict(map(_as_claimed, results["table"]), samples=config["seeds"]),
        )
    ]


def _as_claimed(row: dict[str, Any]) -> bool:
    """Return whether live statistics leave the weights in place, or others move them."""
    return (row["weights_moved"] < 1e-12) == (row["statistics"] == "live")


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw how far the weights moved: down to rounding, and on a linear axis, where those that move stand apart."""
    from bnjax.reporting.figures import lines

    draw = partial(
        lines,
        results["curves"],
        x="step",
        y="moved",
        series="statistics",
        spread="moved_std",
        x_label="SGD step",
        y_label="distance from the first weights, relative",
        title="Live statistics hold a quadratic loss in place, constant ones do not",
        caption=f"mean and standard deviation over {config['seeds']} initializations; n = {config['rows']} "
        f"Gaussian inputs; seed {config['seed']}; float64, ε = 0",
    )
    return {"weights": draw(log_y=True, floor=1e-17), "weights_linear": draw()}


def _train(normalizer: Normalizer, config: Config, key: Array) -> tuple[Array, Array, Array]:
    """Return how far the weights moved, the gradient's norm and the loss, for every step."""
    weight_key, first_key, batch_key = jax.random.split(key, 3)
    weights = jax.random.normal(weight_key, (config.inputs, 1))
    start = weights
    first = config.over_devices(jax.random.normal(first_key, (config.rows, config.inputs)))
    _, stats = normalizer.init(first @ weights)
    optimizer = optax.sgd(config.learning_rate)

    def loss(weights: Array, inputs: Array) -> Array:
        y, _ = normalizer.apply({}, stats, inputs @ weights)
        return -3 * jnp.sum(jnp.square(y))

    def step(state: tuple, key: Array) -> tuple[tuple, tuple[Array, Array, Array]]:
        weights, optimizer_state = state
        inputs = config.over_devices(jax.random.normal(key, (config.rows, config.inputs)))
        value, gradient = jax.value_and_grad(loss)(weights, inputs)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state)
        weights = jnp.asarray(optax.apply_updates(weights, updates))
        moved = jnp.linalg.norm(weights - start) / jnp.linalg.norm(start)
        return (weights, optimizer_state), (moved, jnp.linalg.norm(gradient), value)

    _, history = jax.lax.scan(step, (weights, optimizer.init(weights)), jax.random.split(batch_key, config.steps))
    return history


if __name__ == "__main__":
    main(run, Config, name="experiments.frozen_statistics", figures=figures, failures=failures, claims=claims)
