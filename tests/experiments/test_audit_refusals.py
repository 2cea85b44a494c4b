"""What the audit command refuses: in one line, before anything is trained, and no folder is left."""

import re

import pytest

from experiments.audit import Config, run
from experiments.common.command import main

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
        r"normalizer that can be audited, but not norm: .*Too many.*\(IndexError in __call__, own_nets.py:\d+\)$",
    ),
    "a loss that fails": (
        ["--loss", "own_nets:lookup"],
        r"but not norm, last_norm: .*'lost'.*\(KeyError in lookup, own_nets.py:\d+\)$",
    ),
    "a model for other inputs": (
        ["--model", "bnjax.models:LeNet", "--call-options", "{}"],
        r"can't be called on inputs of shape \(6, 5\) and float32",
    ),
    "no normalizer": (
        ["--model", "own_nets:Plain", "--call-options", "{}"],
        "needs a normalizer of flax's or the library's, but own_nets:Plain applies none",
    ),
    "a wrong layer": (["--layers", "norm", "norms"], "among norm last_norm, got 'norms'"),
    "running statistics": (
        ["--call-options", "{}", "--layers", "last_norm", "norm"],
        """--layers .* but not norm: 'norm' .* may use running statistics.* such as --call-options '{"train": true}'""",
    ),
    "data twice": (["--dataset", "digits"], "--dataset digits and --inputs data.npz are both data; give one of them"),
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
        "a batch needs 13 rows, but the data has 12; take a smaller batch size or, in Python",
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
