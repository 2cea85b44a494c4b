"""The command audits a model of the user's own, or refuses before anything is trained and leaves no folder."""

import dataclasses
import json
import re
import sys
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
from experiments.command import main
from experiments.own_files import own_variables
from experiments.own_model import own_model
from tests.comparison import assert_close

# As a user has it in a file of their own.
MODULE = """
import jax.numpy as jnp
from flax import linen as nn


class Net(nn.Module):
    features: int = 4
    rate: float = 0.2

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(self.features, name="below")(x))
        x = nn.Dropout(self.rate, deterministic=not train, rng_collection="drop_path")(nn.tanh(x))
        return nn.Dense(3, name="last")(nn.LayerNorm(name="last_norm")(x))


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


class Image(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.LayerNorm()(x)


def absolute(output, label):
    return jnp.sum(jnp.abs(output)) * (1 + label)


def broken():
    raise RuntimeError("no weights")


def lookup(output, label):
    return {"loss": jnp.sum(output)}["lost"]


class Squeezing(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(1)(x)).squeeze()
        return nn.Dense(3)(x[:, None])


class Open(Net):
    @nn.compact
    def __call__(self, x, train: bool = False, **further):
        return super().__call__(x, train)


number = 3
"""
GENERATOR = np.random.default_rng(0)
INPUTS, LABELS = GENERATOR.normal(size=(12, 5)).astype(np.float32), np.arange(12) % 3


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    np.savez(tmp_path / "data.npz", inputs=INPUTS, labels=LABELS)
    np.save(tmp_path / "x.npy", INPUTS)
    np.save(tmp_path / "few.npy", LABELS[:7])
    np.save(tmp_path / "high.npy", LABELS + 1)
    np.save(tmp_path / "real.npy", LABELS / 2)
    np.save(tmp_path / "names.npy", np.array(["cat", "dog", "cow"])[LABELS])
    np.save(tmp_path / "objects.npy", np.array([1, "cat", None] * 4, object))
    unclean = np.where(np.isin(np.arange(12), (3, 7))[:, None], np.nan, INPUTS)
    np.savez(tmp_path / "unclean.npz", inputs=unclean, labels=LABELS)
    weights: dict[str, Any] = {"params/below/kernel": np.zeros((5, 7))}
    np.savez(tmp_path / "weights.npz", **weights)
    np.savez(tmp_path / "one.npz", params=np.zeros(3))
    (tmp_path / "list.msgpack").write_bytes(msgpack_serialize([1, 2]))
    np.savez(tmp_path / "image.npz", inputs=np.zeros((12, 5, 2)), labels=LABELS)
    (tmp_path / "text.npy").write_text("no array")
    return tmp_path


OWN = ["--model", "own_nets:Net", "--call-options", '{"train": true}', "--inputs", "data.npz", "--rows", "6"]
REFUSED = {
    "no such module": (
        ["--model", "absent_nets:Net"],
        r"absent_nets:Net can't be imported: ModuleNotFound.*PYTHONPATH",
    ),
    "no such class": (["--model", "own_nets:Absent"], "own_nets:Absent can't be imported: AttributeError"),
    "no colon": (["--model", "own_nets.Net"], "--model needs package.module:name, .*, got 'own_nets.Net'"),
    "a file": (
        ["--model", "own_nets.py:Net"],
        r"needs package.module:name, without a path or \.py, got 'own_nets.py:Net'",
    ),
    "no function": (["--model", "own_nets:number"], "a linen module class or a function that makes one, got int"),
    "no linen module": (
        ["--model", "collections:Counter"],
        "needs a linen module class .*; collections:Counter makes a",
    ),
    "a function that fails": (
        ["--model", "own_nets:broken"],
        "can't be made with the options .*RuntimeError: no weights",
    ),
    "an option it has not": (
        ["--model-options", '{"width": 3}'],
        r"do not fit own_nets:Net\(features: int = 4, .*'width'",
    ),
    "options that are no JSON": (
        ["--model-options", "{width: 3}"],
        r"--model-options needs a JSON object such as '\{\"features\"",
    ),
    "options that are a list": (
        ["--call-options", "[1]"],
        r"--call-options needs a JSON object such as '\{\"train\": true\}', got '\[1\]'",
    ),
    "a flag it has not": (
        ["--call-options", '{"training": true}'],
        r"--call-options do not fit Net.__call__\(x, train: bool = False\): .* 'training'",
    ),
    "an option that names the inputs": (["--call-options", '{"x": 1}'], r"do not fit Net.*multiple values .* 'x'"),
    "an option of flax": (
        ["--model", "own_nets:Open", "--call-options", '{"train": true, "mutable": true, "rngs": 1}'],
        r"--call-options are for Open.__call__, got mutable rngs of apply",
    ),
    "a model that takes no single row": (
        ["--model", "own_nets:Squeezing"],
        r"Too many indices.*\(IndexError in __call__, own_nets.py:\d+\)$",
    ),
    "a loss that fails": (["--loss", "own_nets:lookup"], r"'lost'.*\(KeyError in lookup, own_nets.py:\d+\)$"),
    "a model for other inputs": (
        ["--model", "bnjax.models:LeNet", "--call-options", "{}"],
        r"can't be called on inputs of shape \(6, 5\) and float32",
    ),
    "no normalizer": (
        ["--model", "own_nets:Plain", "--call-options", "{}"],
        "needs a normalizer of flax's or the library's, but own_nets:Plain applies none",
    ),
    "a wrong layer": (["--layers", "norm", "norms"], "among norm last_norm, got 'norms'"),
    "running statistics": (["--call-options", "{}", "--layers", "norm"], r"'norm' .* may use running statistics"),
    "another loss": (
        ["--loss", "hinge"],
        "--loss needs one of cross_entropy, squared, or package.module:name, .*, got 'hinge'",
    ),
    "targets of another shape": (["--loss", "squared"], r"a squared loss needs targets of the outputs' shape \(3,\)"),
    "labels of other rows": (["--inputs", "x.npy", "--labels", "few.npy"], "as many rows, got 12 and 7 rows"),
    "labels out of range": (
        ["--inputs", "x.npy", "--labels", "high.npy"],
        "from 0 to 2, for the model has 3 outputs, got some from 1 to 3",
    ),
    "labels that are no classes": (
        ["--inputs", "x.npy", "--labels", "real.npy"],
        r"one integer a row, got float64 of shape \(12,\)",
    ),
    "labels that are names": (
        ["--inputs", "x.npy", "--labels", "names.npy"],
        r"--labels names.npy needs numbers, one entry a row, got <U3 of shape \(12,\)",
    ),
    "labels that are objects": (
        ["--inputs", "x.npy", "--labels", "objects.npy"],
        "--labels objects.npy can't be read: ValueError: Object arrays",
    ),
    "inputs that are names": (["--inputs", "names.npy", "--labels", "few.npy"], "--inputs names.npy needs numbers"),
    "inputs that are not finite": (
        ["--inputs", "unclean.npz"],
        "--inputs unclean.npz, inputs needs to be finite, got NaN or infinity in row 3 and 1 more",
    ),
    "an archive as one array": (["--labels", "few.npy"], "--inputs data.npz needs to be one array, a .npy file"),
    "outputs that are no logits": (
        ["--model", "own_nets:Image", "--call-options", "{}", "--inputs", "image.npz"],
        r"needs a model that returns logits of shape \(rows, classes\), got \(6, 5, 2\); pass --loss",
    ),
    "inputs without labels": (
        ["--inputs", "x.npy"],
        "without --labels needs an .npz file with the arrays inputs and lab",
    ),
    "labels without inputs": (
        ["--inputs", "None", "--labels", "few.npy"],
        "--labels needs --inputs, the data that they",
    ),
    "no such file": (["--inputs", "none.npz"], "--inputs none.npz can't be read: FileNotFoundError"),
    "no array": (["--inputs", "text.npy", "--labels", "few.npy"], "--inputs text.npy can't be read"),
    "variables of other shapes": (
        ["--variables", "weights.npz"],
        r"needs the model's own: batch_stats/norm/mean with shape \(4,\), got none",
    ),
    "variables that are one array": (
        ["--variables", "one.npz"],
        r"--variables one.npz needs the model's own: batch_stats/norm/mean with shape \(4,\), got none",
    ),
    "variables that are a list": (
        ["--variables", "list.msgpack"],
        "--variables list.msgpack needs collections of variables by name, got a list",
    ),
    "more rows than there are": (["--rows", "13"], "a batch needs 13 rows, but the data has 12"),
    "a larger training batch than there are rows": (
        ["--batch-size", "13"],
        "a batch needs 13 rows, but the data has 12",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_before_the_training_and_leaves_nothing(name, folder, monkeypatch, capsys):
    options, message = REFUSED[name]
    monkeypatch.chdir(folder)
    monkeypatch.setattr("experiments.audit.trained", None)
    with pytest.raises(SystemExit, match="2"):
        main(run, Config, name="experiments.audit", args=[*OWN, "--batch-size", "4", "--output", "out", *options])
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: ")
    assert re.search(message, complaint)
    assert ".py:" not in complaint.replace("own_nets.py:", "")  # No place inside of the project.
    assert len(complaint.splitlines()) == 1
    assert not (folder / "out").exists()


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
    model = own_model("experiments.networks:network", '{"normalizer": "layer_norm", "hidden": [5]}', "{}", "squared")
    assert model.module == MLP((5,), norm=layer_norm())
    assert_close(model.loss(jnp.ones(2), jnp.zeros(2)), 1.0)
