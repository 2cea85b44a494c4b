"""What do more devices bring? Time, and memory of each, of one batch spread over 1, 2, 4, … devices.

    python -m benchmarks.scaling                   # a CPU split into 8 devices
    python -m benchmarks.scaling --devices 4       # at most so many; of an accelerator those that there are

A network of two convolutions with batch normalization on random images of 16×16×3, float32: a training step (SGD with
momentum), `audit` at its first normalizer, and `blocking` of 256 features behind a head of two layers. The batch is the
same on any number of devices, and so are the numbers, to rounding. Timed after a warm-up, in turns; reported are the
median and the smallest and largest turn. The memory of a device is what the compiler reserves there for arguments,
results and all between, beside the formula `whole + spread / devices`: what lies whole on every device (parameters,
their gradient, the optimizer's state, each before and after) and the rest, as it is on one device. An audit is several
programs, whose memory is not added up. The devices of one CPU share its cores: more of them than cores can't be faster.
"""

import dataclasses
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
from jax.sharding import Mesh
from jaxtyping import Array

import bnjax
from benchmarks.agreement import largest_difference
from benchmarks.turns import in_turns
from bnjax.devices import over_rows, replicated, row_mesh
from bnjax.models import Normalization
from bnjax.normalizers import batch_norm
from bnjax.normalizers.normalizer import Mode
from bnjax.training import Recipe, initial_state, train_step
from experiments.common.command import main
from experiments.common.options import Options
from experiments.common.progress import progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE, CHANNELS, FEATURES, CLASSES = 16, 16, 256, 10
MIB = 2**20
# The largest relative difference between numbers of one device and of several, in float32.
ROUNDING = 1e-4


@dataclass(frozen=True)
class Config(Options):
    """Time a training step, an audit and a blocking report on growing numbers of devices."""

    devices: int = 8
    """The most devices; measured are 1, 2, 4, … up to so many."""
    repeats: int = 5
    """Turns; each times everything once."""
    batch_size: int = 256
    """Rows of the batch."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds, on one device."""
        return dataclasses.replace(self, devices=1, repeats=2, batch_size=8)


class Network(nn.Module):
    """Two convolutions with batch normalization, and a linear layer."""

    @nn.compact
    def __call__(self, images: Array, *, mode: Mode = "batch") -> Array:
        """Return the logits."""
        x = images
        for name in ("first", "second"):
            x = nn.relu(Normalization(batch_norm(), name=name)(nn.Conv(CHANNELS, (3, 3))(x), mode=mode))
        return nn.Dense(CLASSES)(jnp.mean(x, (1, 2)))


class Case(NamedTuple):
    """What is timed on one number of devices.

    Attributes:
        call: computes it, and returns a number to be compared.
        compiled: the program, None where there are several.
        whole: bytes that lie whole on every device.
    """

    call: Callable[[], Array]
    compiled: Any
    whole: int


def run(config: Config) -> dict[str, Any]:
    """Time every case on every number of devices."""
    counts = [2**power for power in range(config.devices.bit_length())]
    cases = {"training step": _training_step, "audit": _audit, "blocking": _blocking}
    rows = [
        row
        for name, case in progress(cases.items(), "timing on devices")
        for row in _timed(name, {count: case(config, row_mesh(count)) for count in counts}, config)
    ]
    return {"table": rows}


def _timed(name: str, cases: dict[int, Case], config: Config) -> list[dict[str, Any]]:
    calls = {str(count): lambda case=case: jax.block_until_ready(case.call()) for count, case in cases.items()}
    seconds, results = in_turns(calls, config.repeats)
    one = cases[1]
    rows = []
    for count, case in cases.items():
        own = seconds[str(count)]
        by_turn = [first / here for first, here in zip(seconds["1"], own, strict=True)]
        memory = formula = None
        if case.compiled is not None:
            memory, spread = _bytes(case.compiled), _bytes(one.compiled) - one.whole
            formula = (one.whole + spread / count) / MIB
        rows.append(
            {"case": name, "devices": count, "rows_of_each": config.batch_size // count}
            | {"seconds": statistics.median(own), "smallest": min(own), "largest": max(own)}
            | {"speedup": statistics.median(by_turn)}
            | {"memory_mib": None if memory is None else memory / MIB, "formula_mib": formula}
            | {"difference": largest_difference([results[str(count)]], [results["1"]])}
            | {"reason": "several programs" if memory is None else ""}
        )
    return rows


def _bytes(compiled: Any) -> int:
    """Return what a program takes on each device."""
    sizes = compiled.memory_analysis()
    return sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes


def _images(config: Config, mesh: Mesh) -> tuple[Array, Array]:
    generator = np.random.default_rng(config.seed)
    images = generator.normal(size=(config.batch_size, SIZE, SIZE, 3)).astype(np.float32)
    return over_rows((images, generator.integers(0, CLASSES, config.batch_size).astype(np.int32)), mesh)


def _training_step(config: Config, mesh: Mesh) -> Case:
    images, labels = _images(config, mesh)
    recipe = Recipe(Network(), optax.sgd(0.01, 0.9))
    state = replicated(initial_state(recipe.model, recipe.optimizer, jax.random.key(0), images[:2]), mesh)
    compiled = jax.jit(partial(train_step, recipe)).lower(state, images, labels).compile()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    # Before and after: parameters and momentum; and the gradient.
    return Case(lambda: compiled(state, images, labels)[0].params["Dense_0"]["kernel"], compiled, 5 * size)


def _audit(config: Config, mesh: Mesh) -> Case:
    images, labels = _images(config, mesh)
    variables = replicated(jax.jit(Network().init)(jax.random.key(0), images[:2]), mesh)
    loss = optax.softmax_cross_entropy_with_integer_labels
    return Case(
        lambda: bnjax.audit(Network(), variables, images, labels, loss=loss, layer="first").total_gradient, None, 0
    )


def _logits(weights: list[Array], row: Array) -> Array:
    hidden, last = weights
    return nn.relu(nn.relu(row) @ hidden) @ last


def _blocking(config: Config, mesh: Mesh) -> Case:
    _, labels = _images(config, mesh)
    generator = np.random.default_rng(config.seed)
    shapes = (config.batch_size, FEATURES), (FEATURES, FEATURES), (FEATURES, CLASSES)
    x, *weights = (generator.normal(size=shape).astype(np.float32) / FEATURES**0.5 for shape in shapes)
    x, weights = over_rows(x, mesh), replicated(weights, mesh)

    def report(weights: list[Array], x: Array, labels: Array) -> bnjax.BlockingReport:
        head = bnjax.cross_entropy_head(jax.tree_util.Partial(_logits, weights))
        return bnjax.blocking(head, batch_norm(), x, labels, expansion_point=0.1)

    compiled = jax.jit(report).lower(weights, x, labels).compile()
    whole = sum(leaf.nbytes for leaf in weights)
    return Case(lambda: compiled(weights, x, labels).total_gradient, compiled, whole)


def failures(results: dict[str, Any]) -> list[str]:
    """Return numbers that differ from those of one device."""
    return [
        f"{row['case']} on {row['devices']} devices differs from one by {row['difference']:.1e}"
        for row in results["table"]
        if not row["difference"] < ROUNDING
    ]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw seconds and memory against the number of devices."""
    from bnjax.reporting.figures import lines

    caption = (
        f"one batch of {config['batch_size']} rows, the same on any number of devices; float32; median of "
        f"{config['repeats']} turns; seed {config['seed']}"
    )
    draw = partial(lines, x="devices", log_x=True, log_y=True, x_label="devices", caption=caption)
    sizes = [
        {"case": f"{row['case']}, {what}", "devices": row["devices"], "mib": row[key]}
        for row in results["table"]
        for what, key in (("measured", "memory_mib"), ("formula", "formula_mib"))
        if row[key] is not None
    ]
    return {
        "seconds": draw(
            results["table"], y="seconds", series="case", y_label="seconds", title="Time on several devices"
        ),
        "memory": draw(sizes, y="mib", series="case", y_label="MiB on each device", title="Memory of each device"),
    }


if __name__ == "__main__":
    main(run, Config, name="benchmarks.scaling", figures=figures, failures=failures, x64=False)
