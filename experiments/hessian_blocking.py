"""Which terms of the loss get back through a normalizer, in a network trained on real digits?

    python -m experiments.hessian_blocking
    python -m experiments.hessian_blocking --dataset mnist --data-dir DIR

Small networks are trained for a moment on the embedded digits, or on other images. Then, with each one's own head, the
exact gradients and Hessians of every term at the normalizer's output are carried back through no normalizer, batch
normalization and layer normalization, on single-class and on mixed batches.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

import bnjax
from bnjax.normalizers import Normalizer, batch_norm, identity, layer_norm
from bnjax.reporting.tables import format_value
from experiments.common.claim import BLINDNESS, SECTION_UNKNOWN, Claim, verdict, with_spread
from experiments.common.command import main
from experiments.common.small_network import NetworkOptions, TrainedNetwork, averaged, batches, told
from experiments.common.threads import call_in_threads

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("single_class", "mixed")
KEYS = ("normalizer", "batch", "term", "part")
NORMS = (
    "gradient_norm_output",
    "gradient_norm_input",
    "hessian_norm_output",
    "hessian_norm_input",
    "survival",
)
Side = Literal["output", "input"]
SIDES: tuple[Side, ...] = ("output", "input")
MAPPED_TERMS = ("diagonal", "off_diagonal", "remainder")
MAPPED_FEATURES = (0, 1)
# What the theory says is zero: with one label in the batch all of gradient and diagonal is shared.
BLOCKED = 1e-12
BLOCKED_TERMS = {"gradient": "first-order term", "diagonal": "diagonal of the second-order term"}


@dataclass(frozen=True)
class Config(NetworkOptions):
    """Carry every term of the loss back through no normalizer, batch and layer normalization."""

    least: ClassVar[Mapping[str, int]] = {**NetworkOptions.least, "rows": 3, "features": 2, "map_rows": 3}

    batches: int = 10
    """Batches of each kind for each network; batch k of the single-class ones holds class k mod 10."""
    map_rows: int = 10
    """Rows of the batch whose dense Hessian is drawn."""

    counts_of_rows: ClassVar[tuple[str, ...]] = ("rows", "map_rows")

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, rows=6, features=3, hidden=6, steps=20, seeds=2, batches=2, map_rows=6)


def run(config: Config) -> dict[str, Any]:
    """Train, measure every batch and average over the batches of a kind, then over the networks."""
    networks = config.trained_networks(batch_norm(epsilon=0.0))
    normalizers = {
        "none": identity(affine=True),
        "batch_norm": batch_norm(epsilon=0.0),
        "layer_norm": layer_norm(epsilon=0.0),
    }

    def measure(name: str) -> list[dict]:
        return [
            {"seed": seed, "batch": kind, "batch_number": number, **row, "normalizer": name}
            for seed, network in networks.items()
            for kind in KINDS
            for number, chosen in enumerate(batches(network, config.rows, kind, config.batches, seed))
            for row in _report(config, network, normalizers[name], name, chosen).to_rows()
        ]

    tasks: list[Callable[[], Any]] = [
        partial(_maps, config, networks[config.seed], normalizers["batch_norm"], side) for side in SIDES
    ]
    tasks += [partial(measure, name) for name in normalizers]
    *maps, none, batch, layer = call_in_threads(tasks, "carrying terms back", devices=config.devices)
    per_batch = [*none, *batch, *layer]
    runs = averaged(per_batch, ("seed", *KEYS), NORMS, counted="batches")
    return {
        "table": averaged(runs, KEYS, NORMS, counted="seeds"),
        "runs": runs,
        "batches": per_batch,
        "maps": {"features": list(MAPPED_FEATURES)} | maps[0] | maps[1],
        "networks": [{"seed": seed, "training_accuracy": network.accuracy} for seed, network in networks.items()],
        "data": networks[config.seed].data,
    }


def failures(results: dict[str, Any]) -> list[str]:
    """Return what contradicts the theory: blocked parts that get through, or passing ones that don't."""
    complaints = []
    for row in results["table"]:
        shared = row["part"] == "shared" and row["term"] in BLOCKED_TERMS
        if row["survival"] is None:
            continue
        if row["normalizer"] == "batch_norm" and shared and not _blocked(row):
            complaints.append(f"batch_norm lets the shared {row['term']} term through: survival {row['survival']:.1e}")
        if row["normalizer"] == "none" and abs(row["survival"] - 1) > BLOCKED:
            complaints.append(f"no normalizer blocks the {row['term']} term: survival {row['survival']:.3f}")
    if all(row["survival"] is None for row in results["table"]):
        complaints.append("no network has a gradient at the normalizer's output: nothing was compared")
    return complaints


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of the paper's claims on batches of one class, judged network by network."""

    def of_one_class(table: str, normalizer: str) -> list[dict[str, Any]]:
        wanted = (normalizer, "single_class", "total")
        return [
            row
            for row in results[table]
            if (row["normalizer"], row["batch"], row["part"]) == wanted
            and row["term"] in BLOCKED_TERMS
            and row["survival"] is not None
        ]

    behind_batch, behind_layer = (of_one_class("table", name) for name in ("batch_norm", "layer_norm"))
    batch_runs, layer_runs = (of_one_class("runs", name) for name in ("batch_norm", "layer_norm"))
    found = [
        Claim(
            paper=BLINDNESS,
            place="abstract" if row["term"] == "gradient" else SECTION_UNKNOWN,
            claim=f"On batches of one class batch normalization blocks the {BLOCKED_TERMS[row['term']]} of the loss.",
            ours=f"survival {_survival(row)}",
            n=_sample(row, results, config),
            verdict=verdict((_blocked(run) for run in batch_runs if run["term"] == row["term"]), samples=row["seeds"]),
        )
        for row in behind_batch
    ]
    if behind_layer:
        alternative = Claim(
            paper=BLINDNESS,
            place=SECTION_UNKNOWN,
            claim="Layer normalization blocks neither of these two terms.",
            ours=", ".join(f"{BLOCKED_TERMS[row['term']]}: survival {_survival(row)}" for row in behind_layer),
            n=_sample(behind_layer[0], results, config),
            verdict=verdict((not _blocked(run) for run in layer_runs), samples=behind_layer[0]["seeds"]),
        )
        found.append(alternative)
    return found


def _blocked(row: dict[str, Any]) -> bool:
    """Return whether nothing but rounding of a term gets back."""
    return row["survival"] <= BLOCKED


def _survival(row: dict[str, Any]) -> str:
    return with_spread(row["survival"], row["survival_std"])


def _sample(row: dict[str, Any], results: dict[str, Any], config: dict[str, Any]) -> str:
    return f"{told(row, config)}, {config['batches']} batches of {config['rows']} rows each; {results['data']}"


def summary(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the survival of every term and part, mean ± standard deviation over networks, a column a normalizer."""
    rows: dict[tuple, dict[str, Any]] = {}
    for row in results["table"]:
        key = {name: row[name] for name in ("batch", "term", "part")}
        line = rows.setdefault(tuple(key.values()), key)
        survival = row["survival"]
        line[f"survival, {row['normalizer']}"] = (
            row["reason"] if survival is None else f"{format_value(survival)} ± {format_value(row['survival_std'])}"
        )
    return list(rows.values())


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the survival of every term and the Hessians before and after batch normalization."""
    from bnjax.reporting.figures import heat_maps, survival_bars

    caption = (
        f"{results['data']}; mean and standard deviation over {config['seeds']} networks, {config['batches']} batches "
        f"of {config['rows']} rows each; {config['features']} features; seeds from {config['seed']}; float64, ε = 0"
    )
    totals = [row for row in results["table"] if row["part"] == "total"]
    split = [row for row in results["table"] if row["batch"] == "mixed" and row["part"] != "total"]
    maps = results["maps"]
    drawn = (
        f"{results['data']}; one batch of {config['map_rows']} images of one class, features {maps['features']}, in "
        f"units of each feature's scale; the gradient term's is 0; seed {config['seed']}; float64, ε = 0"
    )
    return {
        "survival": survival_bars(
            totals,
            panels="batch",
            spread="survival_std",
            title="How much of each term's gradient gets back",
            caption=caption,
        ),
        "survival_parts": survival_bars(
            split,
            spread="survival_std",
            title="Mixed batches: what all rows share and what is individual",
            caption=caption,
        ),
        "hessian_maps": heat_maps(
            {
                f"{term}, {place}": maps[f"{term}_{side}"]
                for term in MAPPED_TERMS
                for side, place in (("output", "at the output of batch norm"), ("input", "before batch norm"))
            },
            title="Hessians at the output of batch norm and before it",
            caption=drawn,
            block=config["map_rows"],
            axis_label=f"{config['map_rows']} · feature + row",
        ),
    }


def _report(
    config: Config, network: TrainedNetwork, normalizer: Normalizer, name: str, chosen: np.ndarray
) -> bnjax.BlockingReport:
    """Measure one batch; "none" is the same head at the same Ŷ, carried back by the identity."""
    x = network.features[chosen]
    if name == "none":
        x = (x - np.mean(x, axis=0)) / np.std(x, axis=0)
    x, labels = config.over_devices((x, network.labels[chosen]))
    return bnjax.blocking(network.head, normalizer, x, labels, params=network.norm_params, hessian_norms=True)


def _maps(config: Config, network: TrainedNetwork, normalizer: Normalizer, side: Side) -> dict[str, Any]:
    """Return dense Hessians of two features on a small single-class batch, feature by feature.

    In units of each feature's own scale, so that both sides of the normalizer are comparable.
    """
    chosen = batches(network, config.map_rows, "single_class", 1, config.seed)[0]
    x = network.features[chosen]
    batch = config.over_devices((x, network.labels[chosen]))
    index = np.concatenate([feature + config.features * np.arange(config.map_rows) for feature in MAPPED_FEATURES])
    units = np.ones(x.size) if side == "output" else np.tile(np.std(x, axis=0), config.map_rows)
    maps = {}
    for term in MAPPED_TERMS:
        operator = bnjax.term_hessian(
            network.head, normalizer, *batch, term=term, side=side, params=network.norm_params
        )
        in_units = units[:, None] * np.asarray(operator.dense()) * units
        maps[f"{term}_{side}"] = in_units[np.ix_(index, index)].tolist()
    return maps


if __name__ == "__main__":
    main(
        run,
        Config,
        name="experiments.hessian_blocking",
        figures=figures,
        failures=failures,
        claims=claims,
        summary=summary,
        sooner=True,
    )
