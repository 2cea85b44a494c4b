"""What does a training step cost that also says how much of the gradient every normalizer blocks?

    python -m benchmarks.meter

A compiled step of SGD with momentum on the mean loss, and the same step with loss, gradient and statistics taken from
`bnjax.blocked_share`, which returns the shares at all normalizers beside them: VGG-A and ResNet-18 with batch
normalization, random images of 32×32×3, float32. Asked are at most 1.15 plain steps. Timed after a warm-up, in turns;
reported are medians and the smallest and largest ratio of a turn. Both steps' new parameters are compared.
"""

import dataclasses
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array

import bnjax
from benchmarks.turns import TimingOptions, in_turns, ratios
from bnjax.compilation import jit_once
from bnjax.measurements.blocked_share import Metered
from bnjax.models import MLP, VGGA, ResNet
from bnjax.normalizers import batch_norm
from experiments.common.command import main
from experiments.common.progress import progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAIN, METERED = "plain", "with the meter"
ASKED = 1.15
# The largest difference of the new parameters, relative to the length of the step, in float32.
TOLERANCE = 1e-4
OPTIMIZER = optax.sgd(0.01, 0.9)


@dataclass(frozen=True)
class Config(TimingOptions):
    """Time training steps with and without the meter."""

    repeats: int = 7
    """Turns; each times both steps once."""
    batch_size: int = 128
    """Rows of a batch."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds, of an MLP alone."""
        return dataclasses.replace(self, repeats=2, batch_size=16)


def cases(config: Config) -> dict[str, nn.Module]:
    """Return the models by name."""
    if config.smoke:
        return {"MLP + BN": MLP(norm=batch_norm())}
    return {"VGG-A + BN": VGGA(norm=batch_norm()), "ResNet-18 + BN": ResNet(norm=batch_norm())}


def run(config: Config) -> dict[str, Any]:
    """Time every model."""
    return {"table": [_timed(config, name, model) for name, model in progress(cases(config).items(), "timing steps")]}


def failures(results: dict[str, Any]) -> list[str]:
    """Return where the two steps lead to different parameters."""
    return [
        f"{row['case']}: the steps differ by {row['difference']:.1e} of their length"
        for row in results["table"]
        if not row["difference"] < TOLERANCE
    ]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the seconds of both steps."""
    from bnjax.reporting.figures import dots

    keys = {PLAIN: "plain_s", METERED: "metered_s"}
    return {
        "seconds": dots(
            [
                {"case": row["case"], "step": step, "seconds": row[key]}
                for row in results["table"]
                for step, key in keys.items()
            ],
            name="case",
            value="seconds",
            series="step",
            name_label="model",
            value_label="seconds a step",
            floor=1e-4,
            title="A training step with and without the meter of what is blocked",
            caption=f"median of {config['repeats']} turns; batches of {config['batch_size']}; float32; random images; "
            f"seed {config['seed']}",
        )
    }


def _timed(config: Config, name: str, model: nn.Module) -> dict[str, Any]:
    generator = np.random.default_rng(config.seed)
    images = jnp.asarray(generator.uniform(size=(config.batch_size, 32, 32, 3)).astype(np.float32))
    labels = jnp.asarray(generator.integers(0, 10, config.batch_size))
    variables = jit_once(model.init)(jax.random.key(config.seed), images[:2])
    optimizer_state = OPTIMIZER.init(variables["params"])

    def timed(differentiate: Callable[..., Metered]) -> Callable[[], Any]:
        @jax.jit
        def step(variables: Any, optimizer_state: Any, images: Array, labels: Array) -> Any:
            found = differentiate(model, variables, images, labels)
            updates, optimizer_state = OPTIMIZER.update(found.gradient, optimizer_state)
            params = optax.apply_updates(variables["params"], updates)
            return {"params": params, **found.updated}, optimizer_state, found.loss, found.shares

        return lambda: jax.block_until_ready(step(variables, optimizer_state, images, labels))

    seconds, found = in_turns({PLAIN: timed(_plain), METERED: timed(_metered)}, config.repeats)
    measured = ratios(seconds[PLAIN], seconds[METERED])
    plain, metered = (optax.tree.sub(found[step][0]["params"], variables["params"]) for step in (PLAIN, METERED))
    difference = optax.tree.norm(optax.tree.sub(plain, metered)) / optax.tree.norm(plain)
    return {
        "case": name,
        "normalizers": len(found[METERED][-1]),
        "plain_s": statistics.median(seconds[PLAIN]),
        "metered_s": statistics.median(seconds[METERED]),
        **{key: measured[key] for key in ("ratio", "smallest_ratio", "largest_ratio")},
        "asked": ASKED,
        "difference": float(difference),
    }


def _plain(model: nn.Module, variables: Any, images: Array, labels: Array) -> Metered:
    def mean_loss(params: Any) -> tuple[Array, Any]:
        outputs, updated = model.apply({**variables, "params": params}, images, mutable=["batch_stats"])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(outputs), labels)), updated

    (loss, updated), gradient = jax.value_and_grad(mean_loss, has_aux=True)(variables["params"])
    return Metered({}, loss, gradient, updated)


def _metered(model: nn.Module, variables: Any, images: Array, labels: Array) -> Metered:
    loss = optax.softmax_cross_entropy_with_integer_labels
    return bnjax.blocked_share(model, variables, images, labels, loss=loss)


if __name__ == "__main__":
    main(run, Config, name="benchmarks.meter", figures=figures, failures=failures, x64=False)
