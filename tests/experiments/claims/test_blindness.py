"""What the experiments say of the claims of arXiv 2205.15146 follows from their numbers, whichever these are."""

from itertools import product
from typing import Any

import pytest

from experiments import (
    blocked_by_layer,
    blocked_over_training,
    blocking_spectrum,
    classification,
    flow,
    four_losses,
    frozen_statistics,
    hessian_blocking,
    layer_gradients,
    linear_part,
    off_diagonal,
)
from experiments.common.averages import over_seeds

# Everything that the claims take from a config, whichever experiment's it is.
SIZES = ("rows", "batch_size", "batches", "repeats", "steps", "epochs", "pairs", "width", "blocks", "cases", "shapes")
CONFIG: dict[str, Any] = {"normalizers": ("batch_norm", "none", "layer_norm"), "model": "mlp", "seeds": 3}
CONFIG |= dict.fromkeys(SIZES, 5)
RANDOM, ONE_CLASS = "random", "single_class"


def verdicts(experiment: Any, results: dict[str, Any], **config: Any) -> list[str]:
    return [claim.verdict for claim in experiment.claims({"data": "some data", **results}, CONFIG | config)]


def survivals(batch_norm: float, layer_norm: float = 0.5, seeds: int = 5) -> dict[str, Any]:
    keys = {"batch": ONE_CLASS, "part": "total", "survival_std": 0.0, "seeds": seeds}
    through = {"none": 1.0, "batch_norm": batch_norm, "layer_norm": layer_norm}
    table = [
        {"normalizer": name, "term": term, "survival": survival, **keys}
        for name, survival in through.items()
        for term in ("gradient", "diagonal", "off_diagonal")
    ]
    return {"table": table, "runs": [row for row in table for _ in range(seeds)]}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (survivals(1e-16), ["reproduced"] * 3),
        (survivals(1e-3, layer_norm=1e-16), ["not reproduced"] * 3),
        (survivals(1e-16, seeds=1), ["partly"] * 3),
    ],
)
def test_terms_are_blocked_where_nothing_of_them_survives(results, expected):
    assert verdicts(hessian_blocking, results) == expected


def test_a_term_without_a_gradient_is_not_judged():
    results = survivals(1e-16)
    results["table"] = [row | {"survival": None} for row in results["table"]]
    assert verdicts(hessian_blocking, results) == []


def test_networks_are_judged_one_by_one_whatever_their_mean():
    results = survivals(1e-16, layer_norm=0.3, seeds=3)
    for name, term, survival in (("batch_norm", "gradient", 0.5), ("layer_norm", "diagonal", 0.0)):
        first = next(row for row in results["runs"] if (row["normalizer"], row["term"]) == (name, term))
        results["runs"][results["runs"].index(first)] = first | {"survival": survival}
    assert verdicts(hessian_blocking, results) == ["partly", "reproduced", "partly"]


def test_networks_without_a_gradient_are_told_and_not_counted():
    results = survivals(1e-16, seeds=2)
    results["runs"] += [row | {"survival": None} for row in results["runs"]]
    claims = hessian_blocking.claims({"data": "some data", **results}, {**CONFIG, "seeds": 4})
    assert [claim.n.partition(",")[0] for claim in claims] == ["2 networks (2 more have no such gradient)"] * 3
    nothing = [row | {"survival": None} for row in results["table"]]
    assert any("nothing was compared" in line for line in hessian_blocking.failures({"table": nothing}))


@pytest.mark.parametrize(
    ("second", "third", "expected"),
    [
        (0.6, 0.9, ["reproduced", "reproduced"]),
        (0.9, 0.9, ["not reproduced", "reproduced"]),
        (0.6, 1e-16, ["reproduced", "not reproduced"]),
    ],
)
def test_an_order_is_mostly_blocked_if_less_than_half_of_its_square_gets_back(second, third, expected):
    table = [
        {"normalizer": "batch_norm", "order": order, "survival": survival, "survival_std": 0.0, "seeds": 5}
        for order, survival in ((1, 1e-16), (2, second), (3, third), ("remainder", 0.9))
    ]
    assert verdicts(blocking_spectrum, {"table": table, "runs": table * 5}) == expected
    assert verdicts(blocking_spectrum, {"table": table[:1], "runs": table[:1]}) == []
    other = [row | {"survival": 1.5 - row["survival"]} for row in table]  # What one blocks mostly, another doesn't.
    assert verdicts(blocking_spectrum, {"table": table, "runs": table + other})[0] == "partly"


def differences(diagonal: float, off_diagonal: float, normalizer: str = "batch_norm") -> dict[str, Any]:
    pairs = [(i, j) for i, j in product(range(1, 5), repeat=2) if i != j]
    rows = [{"first": i, "second": j, "mean": off_diagonal if 4 in (i, j) else diagonal} for i, j in pairs]
    return {"table": [{"normalizer": normalizer, "std": 0.0, "batches": 3, **row} for row in rows]}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (differences(1e-15, 10.0), ["reproduced"]),
        (differences(0.1, 10.0), ["partly"]),
        (differences(0.1, 1e-15), ["not reproduced"]),
        (differences(1e-15, 10.0, normalizer="l1_norm"), []),
    ],
)
def test_four_losses_are_two_where_three_of_them_agree(results, expected):
    assert verdicts(four_losses, results) == expected


@pytest.mark.parametrize(
    ("live", "frozen", "seeds", "expected"),
    [(0.0, 0.5, 3, "reproduced"), (0.1, 0.5, 3, "partly"), (0.1, 0.0, 3, "not reproduced"), (0.0, 0.5, 1, "partly")],
)
def test_live_statistics_are_the_cause_if_they_alone_hold_the_weights(live, frozen, seeds, expected):
    moved = {"live": live, "frozen": frozen}
    table = [{"statistics": name, "weights_moved": by, "weights_moved_std": 0.0} for name, by in moved.items()]
    assert verdicts(frozen_statistics, {"table": table}, seeds=seeds) == [expected]


def shares(linear: float, none: float, *, recipe: str = "authors", networks: int = 2) -> dict[str, Any]:
    keys = {"recipe": recipe, "std": 0.2, "survival": none}
    return {
        "table": [
            {"model": f"v{k}", "coordinates": coordinates, "part": part, "mean": mean, **keys}
            for k, coordinates in product(range(networks), ("authors", "standardized"))
            for part, mean in (("linear", linear), ("none", none))
        ]
    }


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (shares(0.65, 0.75), ["reproduced", "reproduced"]),
        (shares(0.55, 0.8), ["reproduced", "not reproduced"]),
        (shares(0.1, 0.99), ["not reproduced", "not reproduced"]),
        (shares(0.65, 0.75, networks=1), ["partly", "partly"]),
        (shares(0.65, 0.75, recipe="adam"), ["reproduced"]),
    ],
)
def test_the_off_diagonal_parts_are_judged_by_their_size_and_by_what_is_blocked(results, expected):
    assert verdicts(off_diagonal, results) == expected


@pytest.mark.parametrize(
    ("normalizer", "ratio", "expected"),
    [
        ("batch_norm", 1e-14, ["reproduced"]),
        ("batch_norm", 0.5, ["not reproduced"]),
        ("batch_norm", None, []),
        ("layer_norm", 0.9, []),
    ],
)
def test_the_linear_part_is_blocked_if_nothing_of_it_arrives(normalizer, ratio, expected):
    assert verdicts(linear_part, {"table": [{"normalizer": normalizer, "ratio": ratio}]}) == expected


def accuracies(batch_norm: list[float], layer_norm: list[float]) -> dict[str, Any]:
    """Return results where each network has 0.9, from another seed a little less, after batches of random rows."""
    on_one_class = {"batch_norm": batch_norm, "layer_norm": layer_norm, "none": [0.88, 0.89, 0.87]}
    runs = [
        {"normalizer": name, "batches": kind, "test_accuracy": accuracy, "neighbour_accuracy": accuracy}
        for name, single_class in on_one_class.items()
        for kind, of_seeds in ((RANDOM, [0.9, 0.89, 0.88]), (ONE_CLASS, single_class))
        for accuracy in of_seeds
    ]
    table = over_seeds(runs, ("normalizer", "batches"), ("test_accuracy", "neighbour_accuracy"))
    return {"runs": runs, "table": table}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (accuracies([0.1, 0.11, 0.12], [0.86, 0.87, 0.85]), "reproduced"),
        (accuracies([0.1, 0.11, 0.12], [0.12, 0.1, 0.11]), "partly"),
        (accuracies([0.88, 0.87, 0.89], [0.86, 0.87, 0.85]), "not reproduced"),
        # It costs more on average, but from one seed alone.
        (accuracies([0.1, 0.9, 0.88], [0.86, 0.87, 0.85]), "not reproduced"),
    ],
)
def test_batches_of_one_class_harm_batch_normalization_if_a_paired_test_shows_it(results, expected):
    assert verdicts(classification, results) == [expected] * 2


@pytest.mark.parametrize("config", [{"seeds": 1}, {"normalizers": ("batch_norm", "layer_norm")}])
def test_without_seeds_or_normalizers_to_compare_classification_says_nothing(config):
    assert verdicts(classification, {"runs": [], "table": []}, **config) == []


def gradients(batch_norm: float, *, last: float = 10.0) -> dict[str, Any]:
    """Return gradients, on rows of one class 8 times as large at the first layer but for batch normalization."""
    first = {"batch_norm": batch_norm, "none": 8.0, "layer_norm": 8.0}
    return {
        "table": [
            {"normalizer": name, "batches": kind, "squared_gradient": square}
            for name in first
            for kind, squares in ((RANDOM, (1.0, 1.0)), (ONE_CLASS, (first[name], last)))
            for square in squares
        ]
    }


@pytest.mark.parametrize(
    ("results", "expected"),
    [(gradients(1.0), ["partly"]), (gradients(7.0), ["not reproduced"]), (gradients(1.0, last=1.0), [])],
)
def test_one_network_of_each_kind_shows_a_part_of_what_gets_down_at_most(results, expected):
    assert verdicts(layer_gradients, results) == expected
    assert verdicts(layer_gradients, results, normalizers=("batch_norm", "none")) == []


def likelihoods(batch_norm: list[float], layer_norm: list[float]) -> dict[str, Any]:
    gaps = {"batch_norm": batch_norm, "layer_norm": layer_norm}
    runs = [
        {"normalizer": name, "real": 1.0 + gap, "mixed": 1.0, "gap": gap} for name, of in gaps.items() for gap in of
    ]
    return {"runs": runs, "table": over_seeds(runs, ("normalizer",), ("gap",))}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (likelihoods([0.01, -0.02, 0.0], [0.5, 0.51, 0.49]), "reproduced"),
        (likelihoods([0.4, 0.42, 0.41], [0.5, 0.52, 0.53]), "partly"),
        (likelihoods([0.01, -0.02, 0.0], [0.5, -0.3, 0.2]), "partly"),
        (likelihoods([0.4, 0.42, 0.41], [0.5, 0.3, 0.43]), "not reproduced"),
    ],
)
def test_a_flow_tells_mixtures_from_images_if_paired_tests_show_it(results, expected):
    assert verdicts(flow, results) == [expected]
    assert verdicts(flow, results, seeds=1) == []
    assert verdicts(flow, results, normalizers=("batch_norm",)) == []


@pytest.mark.parametrize(
    ("shared", "diagonal", "seeds", "expected"),
    [
        (1e-16, 1e-5, 3, "reproduced"),
        (1e-16, 0.1, 3, "partly"),
        (0.1, 0.1, 3, "not reproduced"),
        (0.0, 0.0, 1, "partly"),
    ],
)
def test_blocking_over_training_holds_at_every_time(shared, diagonal, seeds, expected):
    parts = (("gradient", "shared", shared), ("gradient", "individual", 0.7), ("diagonal", "total", diagonal))
    rows = [{"term": term, "part": part, "survival": survival} for term, part, survival in parts]
    table = [{"normalizer": "batch_norm", **row} for row in rows]
    assert verdicts(blocked_over_training, {"table": table}, seeds=seeds) == [expected]
    assert verdicts(blocked_over_training, {"table": [row | {"normalizer": "none"} for row in table]}) == []


def by_layer(survival: float, *last: float) -> dict[str, Any]:
    """Return shares: at the first normalizer all batches alike; at the last single-class ones have these, by seed."""
    measured = {(1, RANDOM): (0.1, 0.11, 0.12), (1, ONE_CLASS): (0.11, 0.1, 0.12)}
    measured |= {(2, RANDOM): (0.1, 0.11, 0.12), (2, ONE_CLASS): last}
    keys = {"epsilon": 1e-5, "dtype": "float32", "part": "along", "survival": survival}
    runs = [
        {"layer": layer, "batch": kind, "blocked_share": share, **keys}
        for (layer, kind), of_seeds in measured.items()
        for share in of_seeds
    ]
    by = ("layer", "batch", "epsilon", "dtype", "part", "survival")
    return {"runs": runs, "table": over_seeds(runs, by, ("blocked_share",))}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (by_layer(1e-5, 0.7, 0.72, 0.71), ["reproduced", "partly"]),
        # A p of 0.03 is too much for the better of two.
        (by_layer(1e-5, 0.3, 0.5, 0.4), ["reproduced", "not reproduced"]),
        (by_layer(0.1, 0.11, 0.1, 0.12), ["not reproduced", "not reproduced"]),
    ],
)
def test_layers_block_in_practice_and_more_of_one_class_if_tests_show_it(results, expected):
    assert verdicts(blocked_by_layer, results) == expected


def test_one_seed_says_nothing_of_random_rows_against_one_class():
    assert verdicts(blocked_by_layer, by_layer(1e-5, 0.7), seeds=1) == ["partly"]
