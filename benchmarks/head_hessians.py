"""How fast are exact head Hessians, beside `torch.func` and plain `jax.hessian` doing the same work?

    python -m benchmarks.head_hessians

For each row, at a point of its own: the diagonal of the Hessian of the row's loss, and the gradient `(H - diag H) δ`
of its off-diagonal term. The head is Linear(D→64) · ReLU · Linear(64→10) · cross-entropy, without a normalizer, in
float32. All implementations get the same arrays and their outputs are compared. The peers form each row's D × D
Hessian where n of them fit the memory; at D = 4,096 only ours runs. Timed after a warm-up, in turns (ours, peers,
ours, …), several repeats; reported are medians and the smallest and largest ratio of a turn. PyTorch is in the extra
`bench`; without it its rows say so.
"""

import dataclasses
import importlib.util
import resource
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from benchmarks.turns import MEASURED, NO_TORCH, TimingOptions, in_turns, ratios
from bnjax.derivatives import cross_entropy_head, expand, hessian_at
from experiments.common.command import main
from experiments.common.progress import progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLASSES = 10
TORCH, JAX = "torch.func", "jax.hessian"
# Agreement of float32 results, relative to the largest entry.
TOLERANCE = 2e-4
Weights = dict[str, np.ndarray]
Result = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Config(TimingOptions):
    """Time exact per-row Hessian diagonals and off-diagonal terms side by side."""

    width: int = 64
    """Width of the head's hidden layer."""
    repeats: int = 7
    """Turns; each times every implementation once."""
    dense_gib: float = 1.0
    """Peers run where all rows' dense Hessians together take at most this much memory, in GiB."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, repeats=2, dense_gib=0.001)


def cases(config: Config) -> dict[str, tuple[int, int]]:
    """Return name ↦ (features D, rows n)."""
    if config.smoke:
        return {"D = 20": (20, 16), "D = 512": (512, 4)}
    return {
        "D = 20": (20, 2048),
        "D = 84": (84, 512),
        "D = 512": (512, 64),
        "D = 4096": (4096, 32),
        "D = 4096, 128 rows": (4096, 128),
    }


def run(config: Config) -> dict[str, Any]:
    """Time every case."""
    table = []
    for name, (features, rows) in progress(cases(config).items(), "timing head Hessians"):
        table += _case(config, name, features, rows)
    return {"table": table, "peak_memory_gib": _peak_memory_gib()}


def failures(results: dict[str, Any]) -> list[str]:
    """Return where two implementations disagree."""
    return [
        f"{row['case']}: {row['peer']} differs by {row['difference']:.1e}"
        for row in results["table"]
        if row["difference"] is not None and row["difference"] > TOLERANCE
    ]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw seconds a row against features; of several cases of one D the one with the most rows."""
    from bnjax.reporting.figures import lines

    table = results["table"]
    ours = {row["features"]: {**row, "what": "bnjax", "seconds": row["ours_s"] / row["rows"]} for row in table}
    peers = [{**row, "what": row["peer"], "seconds": row["peer_s"] / row["rows"]} for row in table if row["peer_s"]]
    rows = ", ".join(f"D = {row['features']}: {row['rows']}" for row in ours.values())
    return {
        "seconds": lines(
            [*ours.values(), *peers],
            x="features",
            y="seconds",
            series="what",
            log_x=True,
            log_y=True,
            x_label="features D",
            y_label="seconds a row",
            title="Exact Hessian diagonal and off-diagonal term",
            caption=f"rows n at {rows}; median of {config['repeats']} turns; float32; hidden width {config['width']}; "
            f"seed {config['seed']}; peers where their dense Hessians take at most {config['dense_gib']} GiB",
        )
    }


def _case(config: Config, name: str, features: int, rows: int) -> list[dict[str, Any]]:
    """Time one case and return a row for each peer; a peer that can't run has nulls and the reason."""
    weights, points, deltas, labels = _problem(config, features, rows)
    dense_gib = rows * features**2 * 4 / 2**30
    implementations = {"bnjax": _ours(weights, points, deltas, labels)}
    reasons = {}
    if dense_gib <= config.dense_gib:
        implementations[JAX] = _plain_jax(weights, points, deltas, labels)
        if importlib.util.find_spec("torch") is None:
            reasons[TORCH] = NO_TORCH
        else:
            implementations[TORCH] = _torch_func(weights, points, deltas, labels)
    else:
        over = f"left out: dense Hessians of {dense_gib:.2g} GiB, over --dense-gib {config.dense_gib:.2g}"
        reasons = dict.fromkeys((JAX, TORCH), over)
    seconds, results = in_turns(implementations, config.repeats)
    common = {"case": name, "features": features, "rows": rows, "ours_s": statistics.median(seconds["bnjax"])}
    table = []
    for peer in (TORCH, JAX):
        if peer in reasons:
            measured: dict[str, float | None] = dict.fromkeys((*MEASURED, "difference"))
        else:
            difference = _difference(results["bnjax"], results[peer])
            measured = {**ratios(seconds["bnjax"], seconds[peer]), "difference": difference}
        table.append({**common, "peer": peer, **measured, "reason": reasons.get(peer, "")})
    return table


def _problem(config: Config, features: int, rows: int) -> tuple[Weights, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(config.seed)

    def normal(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape).astype(np.float32)

    weights = {
        "first": normal(config.width, features) / np.float32(features**0.5),
        "bias": normal(config.width),
        "second": normal(CLASSES, config.width) / np.float32(config.width**0.5),
    }
    return weights, normal(rows, features), normal(rows, features), generator.integers(0, CLASSES, rows)


def _ours(weights: Weights, points: np.ndarray, deltas: np.ndarray, labels: np.ndarray) -> Callable[[], Result]:
    head = cross_entropy_head(jax.tree_util.Partial(_jax_logits, jax.tree.map(jnp.asarray, weights)))

    def row(head: Callable, point: Array, delta: Array, label: Array) -> tuple[Array, Array]:
        hessian = hessian_at(head, point, label)
        diagonal = hessian.diagonal()
        return diagonal, hessian.product(delta) - diagonal * delta

    return _compiled(row, head, points, deltas, labels)


def _plain_jax(weights: Weights, points: np.ndarray, deltas: np.ndarray, labels: np.ndarray) -> Callable[[], Result]:
    head = cross_entropy_head(jax.tree_util.Partial(_jax_logits, jax.tree.map(jnp.asarray, weights)))

    def row(head: Callable, point: Array, delta: Array, label: Array) -> tuple[Array, Array]:
        hessian = expand(head, point, label).hessian
        diagonal = jnp.diag(hessian)
        return diagonal, hessian @ delta - diagonal * delta

    return _compiled(row, head, points, deltas, labels)


def _jax_logits(weights: dict[str, Array], row: Array) -> Array:
    return weights["second"] @ jax.nn.relu(weights["first"] @ row + weights["bias"])


def _compiled(row: Callable, head: Callable, *row_arrays: np.ndarray) -> Callable[[], Result]:
    arrays = jax.tree.map(jnp.asarray, row_arrays)
    all_rows = jax.jit(jax.vmap(row, in_axes=(None, 0, 0, 0)))
    return lambda: jax.block_until_ready(all_rows(head, *arrays))


def _torch_func(weights: Weights, points: np.ndarray, deltas: np.ndarray, labels: np.ndarray) -> Callable[[], Result]:
    import torch

    first, bias, second = (torch.from_numpy(weights[key]) for key in ("first", "bias", "second"))

    def loss(point: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        logits = second @ torch.relu(first @ point + bias)
        return torch.logsumexp(logits, 0) - logits.gather(0, label[None])[0]

    def row(point: torch.Tensor, delta: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hessian = torch.func.hessian(loss)(point, label)
        diagonal = torch.diagonal(hessian)
        return diagonal, hessian @ delta - diagonal * delta

    arrays = [torch.from_numpy(array) for array in (points, deltas, labels)]
    all_rows = torch.func.vmap(row)

    def call() -> Result:
        diagonal, off_diagonal = all_rows(*arrays)
        return diagonal.numpy(), off_diagonal.numpy()

    return call


def _difference(ours: Result, theirs: Result) -> float:
    """Return the largest difference relative to the largest entry."""
    return max(
        float(np.max(np.abs(np.asarray(a) - np.asarray(b))) / np.max(np.abs(np.asarray(b))))
        for a, b in zip(ours, theirs, strict=True)
    )


def _peak_memory_gib() -> float:
    """Return the largest resident size that this process had, in GiB (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main(run, Config, name="benchmarks.head_hessians", figures=figures, failures=failures, x64=False)
