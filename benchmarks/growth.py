"""How do time and memory of the reports grow with rows, features, classes and order, beside what is counted?

    python -m benchmarks.growth

`bnjax.blocking` behind Linear(D→64) · ReLU · Linear(64→k) · cross-entropy (low-rank path) and the same with tanh
(general path), `bnjax.spectrum` behind both and, where Taylor mode has no rule, behind softplus (nested), with batch
normalization, float32. One size varies at a time. Counted, in leading order, of n rows with D features, k classes,
width w of the hidden layer and m orders:

- low-rank: n · (D · w + k² · D), the gradients and the diagonals of `Jᵀ A J`; memory n · (D + k²), with the cores `A`;
- general: n · D · (D · w + w · k), D Hessian columns a row; memory n · (D + k) for each of the 64 columns at once;
- orders: low-rank m pull-backs, of n · D · w each; Taylor mode the same, and m² products of numbers for each of the w
  nonlinearities; nested at most twice the work for each further order. Memory: m gradients, n · m · D.

The exponents are fitted by least squares of logarithms over the upper half of the sizes, where lower orders matter
least; beside nested orders stands the number of doublings for each further one. Seconds are the smallest of several
calls of a compiled program, all sizes in turns; memory is that of its intermediate arrays, as XLA plans it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array

import bnjax
from benchmarks.turns import TimingOptions, in_turns
from bnjax.normalizers import batch_norm
from experiments.common.command import main
from experiments.common.progress import progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 64
LOW_RANK, GENERAL, TAYLOR, NESTED = "low-rank", "general", "Taylor mode", "nested"
ACTIVATIONS = {LOW_RANK: jax.nn.relu, GENERAL: jnp.tanh, TAYLOR: jnp.tanh, NESTED: jax.nn.softplus}
ROWS, FEATURES, CLASSES, ORDERS = "rows n", "features D", "classes k", "orders m"
# By how much memory may grow faster than counted: what was left out of the count has not died out.
SLACK = 0.2


@dataclass(frozen=True)
class Config(TimingOptions):
    """Fit the growth of time and memory."""

    repeats: int = 5
    """Calls of each program; the fastest counts."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, repeats=1)


class Sizes(NamedTuple):
    """Of one problem: rows n, features D, classes k, and orders m, 0 for `blocking` instead of `spectrum`."""

    rows: int
    features: int
    classes: int
    orders: int = 0


class Sweep(NamedTuple):
    """One size that varies.

    Attributes:
        path: how derivatives are taken.
        against: the name of the size.
        sizes: of the problems.
        time: the counted exponent, or doublings for each further order.
        memory: likewise.
    """

    path: str
    against: str
    sizes: Sequence[Sizes]
    time: float
    memory: float

    def values(self) -> list[int]:
        """Return the values of the size that varies."""
        field = {ROWS: "rows", FEATURES: "features", CLASSES: "classes", ORDERS: "orders"}[self.against]
        return [getattr(sizes, field) for sizes in self.sizes]

    def scale(self, values: Any) -> np.ndarray:
        """Return binary logarithms of the values; nested orders themselves, which count doublings."""
        return np.asarray(values, float) if self.path == NESTED else np.log2(values)


def sweeps(config: Config) -> list[Sweep]:
    """Return what is measured."""
    if config.smoke:
        return [Sweep(LOW_RANK, ROWS, [Sizes(n, 8, 3) for n in (64, 128, 256)], 1, 1)]
    return [
        Sweep(LOW_RANK, ROWS, [Sizes(n, 256, 10) for n in _doubled(64, 1024)], 1, 1),
        Sweep(LOW_RANK, FEATURES, [Sizes(256, d, 10) for d in _doubled(64, 1024)], 1, 1),
        Sweep(LOW_RANK, CLASSES, [Sizes(128, 256, k) for k in _doubled(32, 512)], 2, 2),
        Sweep(GENERAL, ROWS, [Sizes(n, 128, 10) for n in _doubled(64, 1024)], 1, 1),
        Sweep(GENERAL, FEATURES, [Sizes(16, d, 10) for d in _doubled(64, 1024)], 2, 1),
        Sweep(GENERAL, CLASSES, [Sizes(32, 64, k) for k in _doubled(128, 2048)], 1, 1),
        Sweep(LOW_RANK, ORDERS, [Sizes(128, 512, 10, m) for m in (2, 3, 4, 6, 8)], 1, 1),
        Sweep(TAYLOR, ORDERS, [Sizes(128, 512, 10, m) for m in (2, 3, 4, 6, 8)], 1, 1),
        Sweep(NESTED, ORDERS, [Sizes(128, 512, 10, m) for m in (1, 2, 3, 4, 5)], 1, 1),
    ]


def run(config: Config) -> dict[str, Any]:
    """Measure every sweep and fit its exponents."""
    points, table = [], []
    for sweep in progress(sweeps(config), "measuring growth"):
        measured = _measured(config, sweep)
        points += measured
        fits = {}
        for what, key in (("time", "seconds"), ("memory", "mib")):
            exponent, error = fitted_slope(sweep.scale(sweep.values()), np.log2([row[key] for row in measured]))
            counted = getattr(sweep, what)
            fits |= {f"{what}_exponent": exponent, f"{what}_error": error, f"{what}_counted": counted}
        table.append({"path": sweep.path, "against": sweep.against, **fits})
    return {"table": table, "points": points}


def fitted_slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the least-squares slope over the upper half of the points, at least 3 of them, and its standard error."""
    count = max(3, (len(x) + 1) // 2)
    x, y = x[-count:] - x[-count:].mean(), y[-count:] - y[-count:].mean()
    slope = x @ y / (x @ x)
    return float(slope), float(np.sqrt(np.sum((y - slope * x) ** 2) / (count - 2) / (x @ x)))


def failures(results: dict[str, Any]) -> list[str]:
    """Return where memory, which does not depend on the machine's other work, grows faster than counted."""
    return [
        f"{row['path']} against {row['against']}: memory grows with exponent {row['memory_exponent']:.2f}, counted are "
        f"{row['memory_counted']:g}"
        for row in results["table"]
        if row["memory_exponent"] > row["memory_counted"] + SLACK
    ]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw seconds and memory against every size, beside what is counted."""
    from bnjax.reporting.figures import lines

    drawn = {"time": ("seconds", "seconds a call"), "memory": ("mib", "intermediate arrays, MiB")}
    return {
        what: lines(
            results["points"],
            x="size",
            y=key,
            series="path",
            panels="against",
            reference=f"{key}_counted",
            log_x=True,
            log_y=True,
            x_label="size",
            y_label=label,
            title=f"How {what} grows",
            caption="dashed: as counted in leading order, through the last point; fastest of "
            f"{config['repeats']} calls; hidden width {WIDTH}; float32; seed {config['seed']}",
        )
        for what, (key, label) in drawn.items()
    }


def _doubled(first: int, last: int) -> list[int]:
    return [first * 2**doublings for doublings in range((last // first).bit_length())]


def _measured(config: Config, sweep: Sweep) -> list[dict[str, Any]]:
    """Return a row for each size: seconds and memory, and what they would be as counted from the last size on."""
    sized = zip(sweep.values(), sweep.sizes, strict=True)
    programs = {size: _program(config, sweep.path, sizes) for size, sizes in sized}
    seconds, _ = in_turns({str(size): call for size, (call, _) in programs.items()}, config.repeats)
    found = {
        "seconds": np.array([min(seconds[str(size)]) for size in programs]),
        "mib": np.array([mib for _, mib in programs.values()]),
    }
    distance = sweep.scale(list(programs)) - sweep.scale(list(programs))[-1]
    found["seconds_counted"] = found["seconds"][-1] * 2 ** (sweep.time * distance)
    found["mib_counted"] = found["mib"][-1] * 2 ** (sweep.memory * distance)
    common = {"path": sweep.path, "against": sweep.against}
    return [
        {**common, "size": size, **{key: float(values[at]) for key, values in found.items()}}
        for at, size in enumerate(programs)
    ]


def _program(config: Config, path: str, sizes: Sizes) -> tuple[Callable[[], Any], float]:
    """Return a compiled report, and the MiB of its intermediate arrays."""
    keys = jax.random.split(jax.random.key(config.seed), 4)
    weights = (
        jax.random.normal(keys[0], (WIDTH, sizes.features)) / sizes.features**0.5,
        jax.random.normal(keys[1], (sizes.classes, WIDTH)) / WIDTH**0.5,
    )
    x = jax.random.normal(keys[2], (sizes.rows, sizes.features))
    labels = jax.random.randint(keys[3], (sizes.rows,), 0, sizes.classes)

    def report(weights: tuple[Array, Array], x: Array, labels: Array) -> Any:
        head = bnjax.cross_entropy_head(Partial(partial(_logits, ACTIVATIONS[path]), weights))
        if sizes.orders:
            return bnjax.spectrum(head, batch_norm(), x, labels, max_order=sizes.orders, expansion_point=0.5)
        return bnjax.blocking(head, batch_norm(), x, labels, expansion_point=0.5)

    compiled = jax.jit(report).lower(weights, x, labels).compile()
    planned: Any = compiled.memory_analysis()
    return lambda: jax.block_until_ready(compiled(weights, x, labels)), planned.temp_size_in_bytes / 2**20


def _logits(activation: Callable[[Array], Array], weights: tuple[Array, Array], row: Array) -> Array:
    return weights[1] @ activation(weights[0] @ row)


if __name__ == "__main__":
    main(run, Config, name="benchmarks.growth", figures=figures, failures=failures, x64=False)
