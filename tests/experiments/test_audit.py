"""The command audits a model of the user's own at every normalizer."""

import dataclasses
import json
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest
from flax.serialization import msgpack_serialize
from flax.traverse_util import flatten_dict

from bnjax.models import MLP
from bnjax.normalizers import layer_norm
from experiments.audit import Config, failures, figures, run, summary
from experiments.own.files import own_variables
from experiments.own.model import own_model
from tests.comparison import assert_close
from tests.experiments.own_folder import INPUTS, LABELS


def loaded(folder, **options):
    config = Config(model="own_nets:Net", call_options='{"train": true}', inputs=folder / "data.npz", **options)
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


def drawn_figures(config, results):
    """The figures, drawn from what a record keeps."""
    plain = json.loads(json.dumps((results, dataclasses.asdict(config)), default=str))
    return figures(*plain)


@pytest.fixture
def variables(folder):
    model = import_module("own_nets").Net()
    drawn = model.init(jax.random.key(3), INPUTS)
    (folder / "weights.msgpack").write_bytes(msgpack_serialize({**drawn, "step": 3}))
    return model, drawn


def test_given_variables_are_audited_as_they_are(folder, variables):
    model, drawn = variables
    options = {"variables": folder / "weights.msgpack", "model_options": '{"rate": 0.0}', "layers": ("norm",)}
    config, results = loaded(folder, rows=12, epochs=0, loss="own_nets:absolute", trunk_gradients=True, **options)
    outputs, _ = model.clone(rate=0.0).apply(drawn, INPUTS, train=True, mutable=["batch_stats"])
    expected = jnp.sum(jnp.abs(outputs) * (1 + LABELS[:, None]))
    assert results["training"] == []
    assert [row["epoch"] for row in results["layers"]] == [0]
    assert_close(jnp.float32(results["layers"][0]["loss"]), expected)
    total = {row["term"]: row["trunk_gradient_norm"] for row in results["table"] if row["part"] == "total"}
    for term, norm in total.items():
        own = [row for row in results["trunk"] if row["term"] == term]
        assert {row["parameter"] for row in own} == {"below/kernel", "below/bias"}
        assert_close(jnp.linalg.norm(jnp.array([row["gradient_norm"] for row in own])), norm)
    drawn = drawn_figures(config, results)
    assert "trunk_gradients" in drawn
    for figure in drawn.values():
        (axis,) = figure.axes
        assert [label.get_text() for label in axis.get_yticklabels()] == ["norm"]


def test_the_axis_of_a_figure_fits_its_values(folder):
    config, results = loaded(folder, rows=6, batch_size=4, epochs=0, layers=("norm",))
    (axis,) = drawn_figures(config, results)["survival_total"].axes
    lowest = min(row["survival"] for row in results["table"] if row["part"] == "total")
    assert lowest / 31 < np.min(axis.get_lines()[-1].get_xdata()) < lowest / 2


def test_probes_and_chunks_of_rows_leave_the_exact_terms_as_they_are(folder):
    shared = {"rows": 6, "epochs": 0, "layers": ("norm",)}
    (_, exact), (_, estimated) = loaded(folder, **shared), loaded(folder, row_chunk=2, probes=4, **shared)
    assert failures(estimated) == []
    for row, other in zip(exact["table"], estimated["table"], strict=True):
        if row["term"] == "gradient":
            assert_close(jnp.float32(row["survival"]), other["survival"])
        assert ("survival_low" in other) == (row["term"] in ("diagonal", "off_diagonal"))


def test_variables_are_read_from_every_kind_of_file(folder, variables):
    _, drawn = variables
    flat: dict[str, Any] = flatten_dict(drawn, sep="/")
    np.savez(folder / "all.npz", **flat)
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "state", {"params": drawn["params"], "stats": drawn["batch_stats"]})
    for name in ("weights.msgpack", "all.npz", "state"):
        jax.tree.map(np.testing.assert_array_equal, own_variables(folder / name, drawn), drawn)


@pytest.mark.usefixtures("folder")
def test_objects_in_call_options_are_hashable_for_equal_models_compile_once():
    first, second = (own_model("own_nets:Open", "{}", '{"scales": {"low": [1, 2]}}', "squared") for _ in range(2))
    assert hash(first) == hash(second)


def test_a_network_of_the_tables_is_made_by_name():
    model = own_model(
        "experiments.common.networks:network", '{"normalizer": "layer_norm", "hidden": [5]}', "{}", "squared"
    )
    assert model.module == MLP((5,), norm=layer_norm())
    assert_close(model.loss(jnp.ones(2), jnp.zeros(2)), 1.0)
