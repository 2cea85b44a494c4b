"""How fast, and in how much memory, is exact curvature beside `torch.func`, `jax.hessian`, curvlinops and BackPACK?

    python -m benchmarks.curvature

The same work in float32, on the same arrays and weights, with outputs compared:

- head, diagonal: of each row's Hessian at the input of the head ReLU · Linear(D→64) · ReLU · Linear(64→10) ·
  cross-entropy. torch.func and jax.hessian form each row's Hessian, curvlinops takes D columns for all rows at once,
  BackPACK has the diagonal for the bias of the layer before (`BatchDiagHessian`);
- head, product: each row's Hessian times a vector;
- products with the Hessian over all parameters of a network, with running statistics and in training mode, with one
  vector and with several at once;
- inside: the gradients of the four terms at a normalizer inside of VGG-A, its other statistics held (`bnjax.audit`);
  torch.func by hand.

Timed after a warm-up, in turns; reported are medians and the smallest and largest ratio of a turn. Memory is that of
one call in a fresh process (`benchmarks.resident_memory`). The peers are in the extra `bench`; what is not
installed, or cannot do the work, has the reason in its row.
"""

import dataclasses
import importlib.util
import itertools
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from benchmarks.curvature_problems import (
    Arrays,
    Head,
    Implementation,
    Inside,
    Network,
    head_diagonals,
    head_products,
    inside,
    network_products,
)
from benchmarks.resident_memory import peak_memory_mib
from benchmarks.turns import MEASURED, NO_TORCH, TimingOptions, in_turns, ratios, seconds_beside
from bnjax.normalizers.normalizer import Mode
from experiments.common.command import main
from experiments.common.progress import progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS = "bnjax"
# The peers, and the module of each.
MODULES = {"torch.func": "torch", "jax.hessian": "jax", "curvlinops": "curvlinops", "BackPACK": "backpack"}
# Those that take all columns of the rows' Hessians for their diagonals.
COLUMN_BY_COLUMN = ("torch.func", "jax.hessian", "curvlinops")
# The largest difference from a peer's result, relative to its length, in float32.
TOLERANCE = 1e-3
COLUMNS = ("case", "peer", "ours_s", "peer_s", *MEASURED[1:], "ours_mib", "peer_mib", "difference", "reason")


@dataclass(frozen=True)
class Config(TimingOptions):
    """Time head Hessians, Hessian products and an audit side by side."""

    seed: int = 1
    """Seed of everything random; with 0, float32 decides a ReLU or a maximum of VGG-A otherwise than float64."""
    repeats: int = 5
    """Turns; each times every implementation once."""
    rows: int = 32
    """Images of a batch."""
    width: int = 16
    """Channels of the networks' first stage; published are 64."""
    vectors: int = 8
    """Vectors of a product with several at once."""
    dense_gib: float = 1.0
    """Peers that take all columns of the rows' Hessians run where these have at most this size, in GiB."""
    memory: Literal["measured", "not measured"] = "measured"
    """Whether each implementation also runs in a process of its own, for its memory."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, repeats=2, rows=8, width=2, memory="not measured")


class Case(NamedTuple):
    """A problem, and how this library computes it."""

    compute: Callable[[Any], Implementation]
    problem: Any


def cases(config: Config) -> dict[str, Case]:
    """Return the cases by name."""
    sizes = [(20, 8)] if config.smoke else [(20, 2048), (84, 512), (512, 64), (4096, 32)]
    named = {}
    for features, rows in sizes:
        problem = Head(features, rows, 64, config.seed)
        named[f"head, diagonal, D = {features}"] = Case(head_diagonals, problem)
        named[f"head, product, D = {features}"] = Case(head_products, problem)
    vectors_of = {"MLP": (1,)} if config.smoke else {"VGG-A": (1, config.vectors), "ResNet-18": (1,)}
    modes: tuple[Mode, ...] = ("batch",) if config.smoke else ("running", "batch")
    for (name, counts), mode in itertools.product(vectors_of.items(), modes):
        for vectors in counts:
            problem = Network(name, config.width, mode, config.rows, vectors, config.seed)
            named[f"{name}, {mode} statistics, product × {vectors}"] = Case(network_products, problem)
    for name, number in [("MLP", 0)] if config.smoke else [("VGG-A", 3), ("VGG-A", 5)]:
        problem = Inside(name, number, max(1, config.width // 2), config.rows, config.seed)
        named[f"inside of {name}, normalizer {number}"] = Case(inside, problem)
    return named


def run(config: Config) -> dict[str, Any]:
    """Time every case."""
    return {
        "table": [
            row
            for name, case in progress(cases(config).items(), "timing curvature")
            for row in _timed(config, name, case)
        ]
    }


def failures(results: dict[str, Any]) -> list[str]:
    """Return where two implementations disagree, but for what is known to be wrong."""
    return [
        f"{row['case']}: {row['peer']} differs by {row['difference']:.1e}"
        for row in results["table"]
        if row["difference"] is not None
        and not row["difference"] < TOLERANCE
        and not (row["peer"] == "curvlinops" and "batch statistics" in row["case"])
    ]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the seconds of all implementations."""
    return {
        "seconds": seconds_beside(
            results["table"],
            title="Exact curvature, beside other packages on the same work",
            caption=f"median of {config['repeats']} turns; float32; networks of width {config['width']} on "
            f"{config['rows']} random images; seed {config['seed']}",
        )
    }


def _timed(config: Config, name: str, case: Case) -> list[dict[str, Any]]:
    """Time one case and return a row for each peer; a peer that can't do it has nulls and the reason."""
    found = {peer: _peer(config, case, peer) for peer in MODULES}
    builds = {OURS: partial(case.compute, case.problem)}
    builds |= {peer: build for peer, build in found.items() if not isinstance(build, str)}
    sides = {side: build() for side, build in builds.items()}
    seconds, results = in_turns({side: implementation.call for side, implementation in sides.items()}, config.repeats)
    memory = dict.fromkeys(builds)
    if config.memory == "measured":
        memory = {side: peak_memory_mib(partial(_call, build)) for side, build in builds.items()}
    rows = []
    for peer, build in found.items():
        reason = "" if memory[OURS] is not None else "memory not measured"
        measured: dict[str, float | None] = dict.fromkeys((*MEASURED, "difference"))
        if isinstance(build, str):
            reason = build
        else:
            difference = _difference(*(sides[side].read(results[side]) for side in (OURS, peer)))
            if difference < TOLERANCE:
                measured = ratios(seconds[OURS], seconds[peer])
            else:
                reason = "its result is another, so this is no comparison"
            measured["difference"] = difference
        rows.append(
            {
                "case": name,
                "ours_s": statistics.median(seconds[OURS]),
                "peer": peer,
                **measured,
                "ours_mib": memory[OURS],
                "peer_mib": memory.get(peer),
                "reason": reason,
            }
        )
    return rows


def _peer(config: Config, case: Case, peer: str) -> Callable[[], Implementation] | str:
    """Return how a peer computes a case, or why it does not."""
    if importlib.util.find_spec("torch") is None:
        return NO_TORCH
    if importlib.util.find_spec(MODULES[peer]) is None:
        return f"{peer} is not installed: pip install -e '.[bench]'"
    from benchmarks.pytorch_curvature import PEERS

    compute = PEERS[case.compute][peer]
    if isinstance(compute, str):
        return compute
    if case.compute is head_diagonals and peer in COLUMN_BY_COLUMN:
        dense_gib = case.problem.rows * case.problem.features**2 * 4 / 2**30
        if dense_gib > config.dense_gib:
            return f"left out: columns of {dense_gib:.2g} GiB, over --dense-gib {config.dense_gib:.2g}"
    return partial(compute, case.problem)


def _call(build: Callable[[], Implementation]) -> Callable[[], Any]:
    return build().call


def _difference(ours: Arrays, theirs: Arrays) -> float:
    """Return the largest distance of an array from the peer's, relative to the length of all of the peer's."""
    pairs = [
        (np.asarray(one, np.float64), np.asarray(other, np.float64)) for one, other in zip(ours, theirs, strict=True)
    ]
    distance, length = (
        sum(float(np.sum(part**2)) for part in parts) ** 0.5
        for parts in ([one - other for one, other in pairs], [other for _, other in pairs])
    )
    return distance / length


if __name__ == "__main__":
    main(run, Config, name="benchmarks.curvature", figures=figures, failures=failures, columns=COLUMNS, x64=False)
