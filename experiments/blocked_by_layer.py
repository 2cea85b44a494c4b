"""How much of the blocked part of the gradient gets back in practice, layer by layer?

    python -m experiments.blocked_by_layer
    python -m experiments.blocked_by_layer --dataset cifar10 --data-dir DIR

That batch normalization blocks is exact for ε = 0 and exact arithmetic (docs/theory.md, T1, T2). A network with batch
normalization everywhere is trained for a moment. Then at each of its normalizers the gradient G of a batch's mean loss
with respect to the standardized features ŷ is split and carried back (`common.carried_back`): with the usual
ε = 1e-5 in float32 and in float64, and with ε = 0 in float64. The network that G comes from has ε = 1e-5.

The blocked share of the gradient, ‖mean + part along ŷ‖² / ‖G‖², is measured on batches of random rows and of one
class; a gradient without a direction of its own would have 2 / m, with m the entries of a feature: the blocked
directions are two of m.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import optax

from bnjax.training import Recipe
from experiments.common.averages import SIGNIFICANT, over_seeds, paired_difference
from experiments.common.claim import BLINDNESS, OWN_QUESTION, Claim, verdict, with_spread
from experiments.common.command import main
from experiments.common.measured_layers import EPSILON, PRECISIONS, measured_layers
from experiments.common.networks import DataOptions, ModelName
from experiments.common.orders import COMPARED_ORDERS, check_orders
from experiments.common.progress import training_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What rounding leaves of zero in float64.
ROUNDING = 1e-10
# What may get back of a part that counts as blocked in practice.
NEGLIGIBLE = 0.01
KIND = ("batch", "layer", "name", "features", "entries", "epsilon", "dtype", "part")
METRICS = ("survival", "predicted", "share", "blocked_share", "variance_min", "variance_median", "dead")


@dataclass(frozen=True)
class Config(DataOptions):
    """Carry the blocked parts of the gradient back through every batch normalization of a network."""

    least: ClassVar[Mapping[str, int]] = {**DataOptions.least, "rows": 3}  # Two of them have nothing but blocked parts.

    model: ModelName = "vgg_a_narrow"
    """The network."""
    batch_size: int = 128
    """Rows of a training batch."""
    rows: int = 32
    """Rows of a measured batch."""
    epochs: int = 3
    """Epochs of training before the measurement."""
    learning_rate: float = 0.01
    """Learning rate of SGD with momentum 0.9."""
    seeds: int = 3
    """Runs, with the seeds seed, seed + 1, …"""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, model="mlp", epochs=1, seeds=1)


def run(config: Config) -> dict[str, Any]:
    """Train a network from every seed and measure each of its normalizers in every precision."""
    train_data, test_data = config.load(train=True), config.load(train=False)
    check_orders(test_data, config.rows)
    recipe = Recipe(config.network("batch_norm", train_data.classes), optax.sgd(config.learning_rate, 0.9))
    runs, accuracies = [], []
    with training_bar(config.seeds * config.epochs) as advance:
        for seed in range(config.seed, config.seed + config.seeds):
            report = partial(advance, f"seed {seed}")
            trained = config.trained(recipe, train_data, test_data, report=report, seed=seed)
            for kind, order in COMPARED_ORDERS.items():
                chosen = order(test_data.labels, config.rows, np.random.default_rng(seed)).indices[0]
                batch = config.over_devices((test_data.images[chosen], test_data.labels[chosen]))
                measured = measured_layers(recipe.model, trained.state, *batch)
                runs += [{"seed": seed, "batch": kind, **row} for row in measured]
            accuracies.append(trained.history[-1]["test_accuracy"])
    return {
        "table": [{**row, "reason": _reason(row)} for row in over_seeds(runs, KIND, METRICS)],
        "runs": runs,
        "data": f"trained on {train_data.name}; measured on {test_data.name}",
        "accuracy": float(np.mean(accuracies)),
    }


def _reason(row: dict[str, Any]) -> str:
    if row["survival"] is None:
        return "no such part of the gradient"
    return "dead features are left out" if row["dead"] and not row["epsilon"] else ""


def failures(results: dict[str, Any]) -> list[str]:
    """Return what contradicts the theory in float64."""
    complaints = []
    for row in results["table"]:
        if row["dtype"] != "float64" or row["survival"] is None:
            continue
        if abs(row["survival"] - row["predicted"]) > ROUNDING:
            where = f"{row['name']}, {row['batch']} rows, ε = {row['epsilon']:g}"
            complaints.append(
                f"{where}: of the part '{row['part']}' survives {row['survival']:.3g}, not {row['predicted']:.3g}"
            )
    return complaints


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of the paper's claims in practice: in float32 with ε = 1e-5, at every normalizer."""
    practice = [row for row in results["table"] if (row["epsilon"], row["dtype"]) == (EPSILON, "float32")]
    blocked = [row["survival"] for row in practice if row["part"] != "rest" and row["survival"] is not None]
    n = f"{config['seeds']} seeds, 1 batch of {config['rows']} rows each ({config['model']}); {results['data']}"
    found = []
    if blocked:
        in_practice = Claim(
            paper=BLINDNESS,
            place=OWN_QUESTION,
            claim="Batch normalization blocks a gradient's mean and its part along ŷ as networks are trained, in "
            "float32 with ε = 1e-5.",
            ours=f"survival at most {max(blocked):.1e}, at any normalizer, on random rows and on one class",
            n=n,
            verdict=verdict((survival <= NEGLIGIBLE for survival in blocked), samples=config["seeds"]),
        )
        found.append(in_practice)
    if config["seeds"] > 1:
        tests = [_one_class_against_random(results, layer) for layer in dict.fromkeys(row["layer"] for row in practice)]
        more = [test["found"] == "shown" and test["p"] < SIGNIFICANT / len(tests) for test in tests]
        last = {row["batch"]: with_spread(row["blocked_share"], row["blocked_share_std"]) for row in practice}
        where_alike = Claim(
            paper=BLINDNESS,
            place=OWN_QUESTION,
            claim="Where the rows of a batch have a loss alike (one class) batch normalization blocks more of the "
            "gradient than on random rows.",
            ours=f"shown at {sum(more)} of {len(more)} normalizers (paired tests, p < 0.05 of all together); at the "
            f"last one {last['single_class']} of the gradient's square is blocked instead of {last['random']}",
            n=n,
            verdict=verdict(more),
        )
        found.append(where_alike)
    return found


def _one_class_against_random(results: dict[str, Any], layer: int) -> dict[str, Any]:
    """Return the paired test of whether in practice a normalizer blocks more of the gradient on one class."""
    where = (layer, EPSILON, "float32", "along")
    rows = [row for row in results["runs"] if (row["layer"], row["epsilon"], row["dtype"], row["part"]) == where]
    random, single_class = (
        [row["blocked_share"] for row in rows if row["batch"] == kind] for kind in ("random", "single_class")
    )
    return paired_difference(random, single_class, "larger")


def summary(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a line for every layer: its variances, the blocked share, and what survives of the part along ŷ."""
    of_layer: dict[int, dict[tuple, dict[str, Any]]] = {}
    for row in results["table"]:
        of_layer.setdefault(row["layer"], {})[row["part"], row["batch"], row["epsilon"], row["dtype"]] = row
    lines = []
    for layer, rows in of_layer.items():
        practice = rows["along", "random", EPSILON, "float32"]
        lines.append(
            {
                "layer": layer,
                "dead": practice["dead"],
                "min σ²": practice["variance_min"],
                "median σ²": practice["variance_median"],
                "theory": practice["predicted"],
                **{name: rows["along", "random", *precision]["survival"] for name, precision in PRECISIONS.items()},
                **{
                    f"blocked {kind}": rows["along", kind, EPSILON, "float32"]["blocked_share"]
                    for kind in COMPARED_ORDERS
                },
                "2 / m": 2 / practice["entries"],
            }
        )
    return lines


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw what survives of the blocked parts, and their share of the gradient, layer by layer."""
    from bnjax.reporting.figures import lines

    titles = {"mean": "its mean", "along": "its part along ŷ"}
    precisions = {value: name for name, value in PRECISIONS.items()}
    rows = [
        {**row, "precision": precisions[row["epsilon"], row["dtype"]], "part of G": titles[row["part"]]}
        for row in results["table"]
        if row["part"] != "rest" and row["survival"] is not None
    ]
    on_random_rows = [row for row in rows if row["batch"] == "random"]
    predicted = [
        {**row, "survival": row["predicted"], "survival_std": row["predicted_std"], "precision": "theory, ε = 1e-5"}
        for row in on_random_rows
        if row["part"] == "along" and (row["epsilon"], row["dtype"]) == (EPSILON, "float64")
    ]
    practice = [row for row in rows if (row["epsilon"], row["dtype"]) == (EPSILON, "float32")]
    chance = [
        {**row, "share": 1 / row["entries"], "share_std": None, "part of G": "either, by chance: 1 / m"}
        for row in practice
        if row["part"] == "along"
    ]
    names = list(dict.fromkeys(row["name"] for row in rows))
    few = names if len(names) <= 4 else [names[0], "…", names[-1]]
    place = "normalizer, from the input on"
    caption = (
        f"{results['data']}; {config['model']}, {config['epochs']} epochs (SGD, rate {config['learning_rate']:g}, "
        f"momentum 0.9, batches of {config['batch_size']}), test accuracy {results['accuracy']:.2f}; mean and standard "
        f"deviation over {config['seeds']} seeds from {config['seed']}, one batch of {config['rows']} rows each; "
        f"normalizers 1–{len(names)}: {', '.join(few)}"
    )
    return {
        "survival": lines(
            [*predicted, *on_random_rows],
            x="layer",
            y="survival",
            spread="survival_std",
            series="precision",
            panels="part of G",
            log_y=True,
            floor=1e-18,
            x_label=place,
            y_label="survival, ‖Jᵀ part‖ / ‖part / s‖",
            title="What is left of the blocked parts in practice",
            caption=f"{caption}; random rows",
        ),
        "blocked_share": lines(
            [*practice, *chance],
            x="layer",
            y="share",
            spread="share_std",
            series="part of G",
            panels="batch",
            log_y=True,
            x_label=place,
            y_label="‖part‖² / ‖G‖²",
            title="How much of the gradient at each normalizer's output is blocked",
            caption=f"{caption}; float32, ε = 1e-5",
        ),
    }


if __name__ == "__main__":
    main(
        run,
        Config,
        name="experiments.blocked_by_layer",
        figures=figures,
        failures=failures,
        claims=claims,
        summary=summary,
    )
