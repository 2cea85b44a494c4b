"""Does every numbered statement hold on random cases, within what rounding allows?

    python -m experiments.verify_theorems

Each statement of docs/theory.md is tried on random shapes, features and losses in float64 and float32. Statements as a
paper prints them stand in rows of their own, outside the verdict: how often they are violated, by how much, and a small
counterexample.
"""

import dataclasses
import functools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from bnjax.compilation import jit_once
from bnjax.theorems import STATEMENTS, Case, Statement, draw_case
from experiments.claims.theorems import claims
from experiments.common.command import main
from experiments.common.options import Options
from experiments.common.threads import call_in_threads

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "theorem",
    "claim",
    "form",
    "dtype",
    "cases",
    "applies_share",
    "worst_error",
    "bound",
    "holds",
    "violated_cases_share",
)


@dataclass(frozen=True)
class Config(Options):
    """Try every numbered statement on random cases."""

    shapes: int = 3
    """Random shapes of features, in turn fully connected and convolutional."""
    cases: int = 100
    """Random cases of each shape and dtype."""

    counts_of_rows: ClassVar[tuple[str, ...]] = ("cases",)

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, shapes=1, cases=8)


def run(config: Config) -> dict[str, Any]:
    """Try every statement on every shape in both dtypes."""
    shapes = random_shapes(config.seed, config.shapes)
    dtypes = ("float64",) if config.smoke else ("float64", "float32")
    work = [(statement, dtype) for dtype in dtypes for statement in STATEMENTS]

    def try_on_shapes(statement: Statement, dtype: str) -> list[dict[str, Any]]:
        fitting = [shape for shape in shapes if "instance" not in statement.normalizer.name or len(shape) > 2]
        return [_try(statement, _cases(shape, dtype, config)) for shape in fitting or [(4, 2, 2, 4)]]

    table, counterexamples = [], []
    tried = call_in_threads(
        [partial(try_on_shapes, *item) for item in work], "trying statements", devices=config.devices
    )
    for (statement, dtype), trials in zip(work, tried, strict=True):
        table.append(_row(statement, dtype, trials))
        if statement.form == "printed" and table[-1]["violated_cases_share"]:
            counterexamples.append(_counterexample(statement, dtype, trials))
    notes = [
        "applies_share: of the features, those at which the statement's hypothesis holds; only these are compared.",
        "violated_cases_share: of the cases, those in which the statement does not hold at some of these features.",
        "worst_error is relative to the size of the numbers that both sides are sums of; rounding allows bound.",
    ]
    return {
        "table": table,
        "counterexamples": counterexamples,
        "shapes": [list(shape) for shape in shapes],
        "notes": notes,
    }


def failures(results: dict[str, Any]) -> list[str]:
    """Return the derived statements that do not hold."""
    return [
        f"{row['theorem']} ({row['dtype']}): error {row['worst_error']:.1e} exceeds the bound {row['bound']:.1e}"
        for row in results["table"]
        if row["holds"] is False
    ]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the worst error of each statement beside its bound."""
    from bnjax.reporting.figures import dots

    rows = [
        {"theorem": row["theorem"], "value": row[key], "what": f"{name}, {row['dtype']}"}
        for row in results["table"]
        if row["form"] == "derived"
        for key, name in (("worst_error", "worst error"), ("bound", "bound"))
    ]
    return {
        "errors": dots(
            rows,
            name="theorem",
            value="value",
            series="what",
            floor=1e-18,
            name_label="statement of docs/theory.md",
            value_label="error relative to the statement's size",
            title="Errors of the statements and what rounding allows",
            caption=f"the case nearest to its bound, of {config['cases']} random cases on each of "
            f"{len(results['shapes'])} shapes; seed {config['seed']}",
        )
    }


def random_shapes(seed: int, count: int) -> list[tuple[int, ...]]:
    """Draw shapes in turn fully connected and convolutional; rows are a multiple of 4 and features of 2."""
    generator = np.random.default_rng(seed)

    def up_to(low: int, high: int, step: int = 1) -> int:
        return step * int(generator.integers(low, high + 1))

    return [
        (up_to(2, 8, 4), up_to(2, 4, 2)) if k % 2 == 0 else (up_to(1, 2, 4), up_to(2, 3), up_to(2, 3), up_to(2, 3, 2))
        for k in range(count)
    ]


@functools.cache
def _cases(shape: tuple[int, ...], dtype: str, config: Config) -> Case:
    """Draw random cases of one shape, stacked."""
    keys = jax.random.split(jax.random.key(config.seed), config.cases)
    return config.over_devices(jit_once(jax.vmap(partial(draw_case, shape=shape, dtype=dtype)))(keys))


def _try(statement: Statement, cases: Case) -> dict[str, Any]:
    """Try one statement on stacked cases, all of them compiled together."""

    @jax.jit
    @jax.vmap
    def check(case: Case) -> tuple[Array, Array, Array]:
        comparison = statement.check(statement.normalizer, case)
        error = comparison.error() if statement.relation == "=" else comparison.excess()
        return error, comparison.bound, jnp.mean(comparison.applies)

    error, bound, applies = map(np.asarray, check(cases))
    return {"cases": cases, "error": error, "bound": np.broadcast_to(bound, error.shape), "applies": applies}


def _row(statement: Statement, dtype: str, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Gather the trials of all shapes; the worst case is the one nearest to its bound or farthest above it."""
    error = np.concatenate([trial["error"] for trial in trials])
    bound = np.concatenate([trial["bound"] for trial in trials])
    excess = np.where(np.isfinite(error), error / np.maximum(bound, np.finfo(bound.dtype).tiny), np.inf)
    worst = int(np.argmax(excess))
    violated = ~(error <= bound)
    applies_share = float(np.mean(np.concatenate([trial["applies"] for trial in trials])))
    asserted = statement.form == "derived" and applies_share > 0
    reason = "as printed: counted, not asserted" if statement.form == "printed" else "its hypothesis holds nowhere"
    return {
        "theorem": statement.name,
        "claim": statement.claim,
        "form": statement.form,
        "dtype": dtype,
        "cases": len(error),
        "applies_share": applies_share,
        "worst_error": float(error[worst]),
        "bound": float(bound[worst]),
        "holds": not violated.any() if asserted else None,
        "violated_cases_share": float(np.mean(violated)),
        "reason": "" if asserted else reason,
    }


def _counterexample(statement: Statement, dtype: str, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a violating case of the smallest batch, the one with the largest violation."""
    smallest = min(
        (trial for trial in trials if (trial["error"] > trial["bound"]).any()), key=lambda t: t["cases"].x[0].size
    )
    index = int(np.argmax(smallest["error"] - smallest["bound"]))
    case = jax.tree.map(lambda leaf: leaf[index], smallest["cases"])
    comparison = statement.check(statement.normalizer, case)
    excess = (comparison.left - comparison.right) / comparison.size
    feature = int(np.argmax(np.where(comparison.applies, excess, -np.inf)))
    return {
        "theorem": statement.name,
        "dtype": dtype,
        "batch_size": int(case.x.size // case.x.shape[-1]),
        "left": float(comparison.left[feature]),
        "right_as_printed": float(comparison.right[feature]),
        "gamma": float(case.gamma[feature]),
        "beta": float(case.beta[feature]),
        "x": " ".join(f"{value:.4g}" for value in np.asarray(case.x).reshape(-1, case.x.shape[-1])[:, feature]),
        "largest_violation": float(smallest["error"][index]),
    }


if __name__ == "__main__":
    main(
        run,
        Config,
        name="experiments.verify_theorems",
        figures=figures,
        failures=failures,
        claims=claims,
        columns=COLUMNS,
    )
