"""The command audits a model of the user's own at every normalizer."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.reporting.pages import run_page
from bnjax.reporting.records import Record
from experiments.audit import Config, failures, figures, run, summary
from tests.comparison import assert_close
from tests.experiments.own.folder import INPUTS, LABELS, write_own_files


def loaded(folder, **options):
    own = {"model": "own_nets:Net", "call_options": '{"train": true}', "inputs": folder / "data.npz"}
    config = Config(**own | options)
    return config, run(config)


def test_a_trained_model_is_audited_at_every_normalizer(folder):
    config, results = loaded(folder, rows=6, batch_size=4, epochs=8, learning_rate=0.03)
    assert failures(results) == []
    assert {(row["epoch"], row["layer"]) for row in results["table"]} == {
        (epoch, layer) for epoch in (0, 8) for layer in ("norm", "last_norm")
    }
    assert results["training"][-1]["loss"] < results["training"][0]["loss"]
    shared = [row for row in results["table"] if (row["term"], row["part"]) == ("gradient", "shared")]
    for row in shared:
        assert (row["survival"] < 1e-12) == (row["layer"] == "norm")
    assert [row["layer"] for row in summary(results)] == ["norm"] * 5 + ["last_norm"] * 5
    assert {row["epoch"] for row in summary(results)} == {8}
    assert results["trunk"] == []
    assert sorted(drawn_figures(config, results)) == [f"survival_{part}" for part in ("individual", "shared", "total")]


def test_without_layers_a_refused_one_is_left_out_and_said(folder):
    config, results = loaded(folder, rows=6, batch_size=4, epochs=1, call_options="{}")
    (refused,) = results["refused"]
    assert (refused["epoch"], refused["layer"]) == (0, "norm")
    assert """such as --call-options '{"train": true}'""" in refused["reason"]
    assert {(row["epoch"], row["number"], row["layer"]) for row in results["table"]} == {
        (0, 2, "last_norm"),
        (1, 2, "last_norm"),
    }
    assert results["notes"][-1] == f"Not audited from epoch 0 on: norm: {refused['reason']}"
    record = Record("experiments.audit", {**dataclasses.asdict(config)}, {}, results)
    assert "Not audited from epoch 0 on: norm" in run_page(record, "Which?")


def test_whole_numbers_go_to_the_model_as_they_are(folder):
    np.savez(folder / "data.npz", inputs=np.arange(60, dtype=np.uint8).reshape(12, 5), labels=LABELS)
    _, results = loaded(folder, rows=6, batch_size=6, epochs=1, model="own_nets:Pixels", call_options="{}")
    assert {row["epoch"] for row in results["layers"]} == {0, 1}


@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({}, "before training"),
        ({"epochs": 1}, "after 1 epoch"),
        ({"epochs": 2}, "after 2 epochs"),
        ({"variables": "x.npz"}, "with the variables given"),
    ],
)
def test_a_figure_says_of_which_state_of_the_model_it_is(options, state):
    (figure,) = figures_of([{"part": "shared", "survival": 0.5}], **options).values()
    assert figure.get_suptitle().replace("\n", " ") == f"What gets back through each normalizer {state}: shared"


@pytest.mark.parametrize(("survival", "hollow"), [(1e-14, 1), (1e-4, 0)])
def test_a_figure_says_once_which_dots_are_hollow_if_there_are_any(survival, hollow):
    rows = [{"part": "shared", "survival": value} for value in (0.5, survival)]
    (figure,) = figures_of(rows).values()
    (axis,) = figure.axes
    said = [axis.get_xlabel(), *(text.get_text() for text in figure.texts)]
    assert sum("hollow" in text for text in said) == hollow


def figures_of(rows, *, epochs=0, variables=None):
    """Return the figures of rows that hold part and survival."""
    config = {"model": "m:N", "model_options": "{}", "rows": 6, "seed": 0, "statistics": "held", "probes": None}
    table = [{"epoch": epochs, "layer": "norm", "term": "gradient", **row} for row in rows]
    return figures({"table": table, "data": "d", "training_data": "d"}, {**config, "variables": variables})


def drawn_figures(config, results):
    """Return the figures, drawn from what a record keeps."""
    plain = json.loads(json.dumps((results, dataclasses.asdict(config)), default=str))
    return figures(*plain)


def test_given_variables_are_audited_as_they_are(folder, variables):
    model, drawn = variables
    options = {"variables": folder / "weights.msgpack", "model_options": '{"rate": 0.0}', "layers": ("norm",)}
    config, results = loaded(folder, rows=12, epochs=0, loss="own_nets:absolute", trunk_gradients=True, **options)
    own = model.clone(rate=0.0)
    outputs, _ = jax.jit(lambda drawn: own.apply(drawn, INPUTS, train=True, mutable=["batch_stats"]))(drawn)
    expected = np.sum(np.abs(outputs) * (1 + LABELS[:, None]))
    assert results["training"] == []
    assert [row["epoch"] for row in results["layers"]] == [0]
    assert_close(jnp.float32(results["layers"][0]["loss"]), expected)
    total = {row["term"]: row["trunk_gradient_norm"] for row in results["table"] if row["part"] == "total"}
    for term, norm in total.items():
        parameters = [row for row in results["trunk"] if row["term"] == term]
        assert {row["parameter"] for row in parameters} == {"below/kernel", "below/bias"}
        assert_close(np.linalg.norm([row["gradient_norm"] for row in parameters]), norm)
    drawn = drawn_figures(config, results)
    assert "trunk_gradients" in drawn
    for figure in drawn.values():
        (axis,) = figure.axes
        assert [label.get_text() for label in axis.get_yticklabels()] == ["norm"]


ONE_LAYER = {"rows": 6, "epochs": 0, "layers": ("norm",)}


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """Audit an untrained model at one normalizer without probes."""
    folder = tmp_path_factory.mktemp("own")
    write_own_files(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.delitem(sys.modules, "own_nets", raising=False)
        return loaded(folder, **ONE_LAYER)


def test_the_axis_of_a_figure_fits_its_values(exact):
    config, results = exact
    (axis,) = drawn_figures(config, results)["survival_shared"].axes
    lowest = min(row["survival"] for row in results["table"] if row["part"] == "shared" and row["term"] == "diagonal")
    assert lowest / 31 < np.min(axis.get_lines()[-1].get_xdata()) < lowest / 2


def test_probes_and_chunks_of_rows_leave_the_exact_terms_as_they_are(folder, exact):
    _, estimated = loaded(folder, row_chunk=2, probes=4, **ONE_LAYER)
    assert failures(estimated) == []
    for row, other in zip(exact[1]["table"], estimated["table"], strict=True):
        if row["term"] == "gradient":
            assert_close(jnp.float32(row["survival"]), other["survival"])
        assert ("survival_low" in other) == (row["term"] in ("diagonal", "off_diagonal"))
