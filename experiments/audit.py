"""Which terms of the loss get back through the normalizers of a model of your own?

    python -m experiments.audit
    python -m experiments.audit --model package.module:Class --call-options '{"train": true}'
    python -m experiments.audit --model my:Net --model-options '{"features": 32}' --inputs x.npy --labels y.npy

Any linen module class, or a function that makes a linen module, is trained for a moment, or read with `--variables`.
Then `bnjax.audit` takes every normalizer of it in turn, or those of `--layers`: of the loss's Taylor terms at the
normalizer's output, how much gets back through it, as a whole, of what all rows share and of what is individual? The
derivatives are exact (but for `--probes`), in float64, with the statistics of one batch and dropout as drawn from the
seed. Before the training the same is done once, epoch 0. A layer that can't be audited is left out, with its reason in
the table `refused`; one of `--layers` ends the run.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import numpy as np

import bnjax
from bnjax.data import random_batches
from bnjax.derivatives.estimated_diagonal import FEWEST_PROBES
from bnjax.derivatives.terms import TERMS
from experiments.common.command import main
from experiments.common.image_sets import ImageOptions, ImageSetName
from experiments.common.options import BESIDE_TRAINING, Options
from experiments.own.errors import placed
from experiments.own.figures import figures
from experiments.own.files import Rows, own_rows, own_variables
from experiments.own.layers import Batch, Tables, audited, reasons
from experiments.own.model import OwnModel, called_shapes, check_classes, own_model, streams
from experiments.own.training import trained


@dataclass(frozen=True)
class Config(Options):
    """Audit every normalizer of a model of your own: which terms of the loss get back through it?

    The printed table holds the survivals after training. table.csv (terms), layers.csv (layers) and trunk.csv
    (parameters before a layer) also hold those before it, epoch 0; refused.csv holds the layers left out, and why. An
    nnx model is audited from Python, by bnjax.audit.

    Random keys of every name that the model asks for, such as dropout or drop_path, come from --seed. What a model
    draws itself in the shape of the batch (make_rng) is refused for the layers before it, for a row alone would draw
    something else; nn.Dropout(rate, broadcast_dims=(1, 2, 3), rng_collection="drop_path") in its place is not.

    The check: at every layer's input the terms' gradients add up to that of jax.grad through flax alone, but for what
    is held (gradient_error); of layers.csv, difference, relative to the terms, is at most rounding.
    """

    least: ClassVar[Mapping[str, int]] = {"seed": 0, "rows": 3, "epochs": 0, "probes": FEWEST_PROBES}

    model: str = "experiments.common.networks:network"
    """A linen module class, or a function that makes one, package.module:name; a small network if not given."""
    model_options: str = "{}"
    """What it is made with, a JSON object such as '{"features": 32}'; lists become tuples."""
    call_options: str = "{}"
    """What the model is called with in training besides its inputs, a JSON object such as '{"train": true}'."""
    loss: str = "cross_entropy"
    """Of one row: cross_entropy (classes), squared (targets of the outputs' shape), or package.module:name."""
    layers: tuple[str, ...] | None = None
    """The paths of the normalizers to audit, such as block2/bn1; all in turn if not given."""
    inputs: Path | None = None
    """Data of your own: a .npy file, or an .npz file with the arrays inputs and labels. They go to the model as they
    are; whole numbers, such as pixels in uint8, are neither scaled nor converted."""
    labels: Path | None = None
    """The labels of inputs in a .npy file."""
    dataset: ImageSetName | None = None
    """Images in place of data of your own, all but the digits prepared once; the digits if neither is given."""
    data_dir: Path | None = field(default=None, metadata=BESIDE_TRAINING)
    """Folder of prepared image sets; TFDS_DATA_DIR or ~/tensorflow_datasets if not given."""
    train_images: int | None = None
    """Train on the first so many images of a dataset only; all if not given."""
    test_images: int | None = None
    """Draw the audited batch from the first so many test images of a dataset only; from all if not given."""
    variables: Path | None = None
    """Parameters and statistics in an .npz file, flax's msgpack or a folder of orbax's; random if not given."""
    epochs: int = 3
    """Epochs of training before the audit; 0 with --variables that are to stay as they are."""
    batch_size: int = 64
    """Rows of a training batch."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    rows: int = 16
    """Rows of the audited batch, drawn from the seed: of the inputs, trained on as well, or of the test images."""
    statistics: Literal["held", "joint"] = "held"
    """What other normalizers' statistics do when a row changes: held, or joint for a small batch as a whole."""
    trunk_gradients: bool = False
    """Also carry every term's gradient on to the parameters before the layer."""
    row_chunk: int | None = 32
    """Rows that go through what is behind the layer at once; memory is in proportion to them."""
    probes: int | None = None
    """Estimate diagonal and off_diagonal from so many Hessian products a row (GELU, wide layers), or exactly."""
    expansion_point: float = 0.5
    """The point that the loss is expanded at, in standardized coordinates; at 0 a ReLU right behind has its kink."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, rows=6, train_images=128, epochs=1)

    def data(self, *, train: bool) -> Rows:
        """Return the data to train on, or those to audit on; data of one's own are both."""
        if self.inputs is not None and self.dataset is not None:
            raise ValueError(f"--dataset {self.dataset} and --inputs {self.inputs} are both data; give one of them")
        if self.inputs is not None:
            return own_rows(self.inputs, self.labels)
        if self.labels is not None:
            raise ValueError("--labels needs --inputs, the data that they belong to")
        kept = {name: getattr(self, name) for name in ("data_dir", "train_images", "test_images")}
        images = ImageOptions(dataset=self.dataset or "digits", **kept).images(train=train)
        return Rows(images.images, images.labels, images.name)


@placed()
def run(config: Config) -> dict[str, Any]:
    """Audit the model before and after training."""
    model = own_model(config.model, config.model_options, config.call_options, config.loss)
    train_data, data = config.data(train=True), config.data(train=False)
    chosen = random_batches(data.labels, config.rows, np.random.default_rng(config.seed)).indices[0]
    if config.epochs:  # Refused now rather than after the first audit.
        random_batches(train_data.labels, config.batch_size, np.random.default_rng(config.seed))
    key, rng_key = jax.random.split(jax.random.key(config.seed))
    batch = Batch(*data.chosen(chosen), streams(rng_key))
    like = called_shapes(model, key, batch.inputs)
    check_classes(model, like, batch.inputs, train_data.labels, data.labels)
    layers = _layers(config, model.normalizers(like, batch.inputs, batch.rngs))
    if config.variables is None:
        variables = jax.jit(model.init)(key, batch.inputs)
    else:
        variables = own_variables(config.variables, like)

    measured = {0: _audited(config, model, layers, variables, batch)}
    losses = []
    if config.epochs:
        numbers = {name: getattr(config, name) for name in ("epochs", "batch_size", "learning_rate", "seed")}
        variables, losses = trained(model, variables, train_data, **numbers)
        left = {row["layer"]: row["number"] for row in measured[0]["layers"]}
        measured[config.epochs] = _audited(config, model, left, variables, batch)
    tables = {
        name: [{"epoch": epoch, **row} for epoch, tables in measured.items() for row in tables[name]]
        for name in measured[0]
    }
    return {
        **tables,
        "notes": _notes(tables["refused"]),
        "training": [{"epoch": epoch, "loss": loss} for epoch, loss in enumerate(losses, start=1)],
        "data": data.name,
        "training_data": train_data.name,
    }


def _layers(config: Config, paths: list[str]) -> dict[str, int]:
    """Return the paths of the layers to audit, numbered; ValueError if they are not among the model's normalizers."""
    if not paths:
        raise ValueError(f"--model needs a normalizer of flax's or the library's, but {config.model} applies none")
    for layer in config.layers or ():
        if layer not in paths:
            raise ValueError(f"--layers needs paths of the model's normalizers, among {' '.join(paths)}, got {layer!r}")
    chosen = (path for path in paths if path in (config.layers or paths))
    return {path: number for number, path in enumerate(chosen, start=1)}


def _audited(
    config: Config, model: OwnModel, layers: dict[str, int], variables: dict[str, Any], batch: Batch
) -> Tables:
    """Return the tables of the layers; ValueError if none can be audited, or one of `--layers` can't."""
    kept = ("statistics", "trunk_gradients", "expansion_point", "row_chunk")
    options = {name: getattr(config, name) for name in kept}
    if config.probes is not None:
        options["probes"] = bnjax.Probes(config.probes, jax.random.key(config.seed))
    tables = audited(model, layers, variables, batch, options)
    if config.layers and tables["refused"]:
        raise ValueError(f"--layers needs layers that can be audited, but not {reasons(tables['refused'])}")
    if not tables["layers"]:
        raise ValueError(f"--model needs a normalizer that can be audited, but not {reasons(tables['refused'])}")
    return tables


def _notes(refused: list[dict[str, Any]]) -> list[str]:
    """Return what is to be said of the tables: what is checked, and what was left out."""
    return [
        "Checked: at every layer's input the terms' gradients add up to that of jax.grad through flax alone, but for "
        "what held statistics change of it (gradient_error).",
        *(f"Not audited from epoch {row['epoch']} on: {reasons([row])}" for row in refused),
    ]


def failures(results: dict[str, Any]) -> list[str]:
    """Return the layers at which the terms do not add up to the gradient: where `difference` exceeds `rounding`."""
    return [
        f"{row['layer']}, epoch {row['epoch']}: the terms' sum and jax.grad differ by {row['difference']:.2g} of the "
        f"terms, more than rounding ({row['rounding']:.2g})"
        for row in results["layers"]
        if row["difference"] > row["rounding"]
    ]


def summary(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the survival of every layer's terms after training, a column a part, and for how many layers is held."""
    last = max(row["epoch"] for row in results["layers"])
    lines = []
    for layer in (row for row in results["layers"] if row["epoch"] == last):
        place = {"layer": layer["layer"], "epoch": last}
        own = [row for row in results["table"] if (row["epoch"], row["layer"]) == (last, layer["layer"])]
        for term in TERMS:
            parts = {row["part"]: row["survival"] for row in own if row["term"] == term}
            lines.append({**place, "survival of": term, **parts})
        held = len(layer["held"].split(", ")) if layer["held"] else 0
        whole = {"total": layer["survival"], "held": held, "gradient_error": layer["gradient_error"]}
        lines.append({**place, "survival of": "all four", **whole})
    return lines


if __name__ == "__main__":
    main(run, Config, name="experiments.audit", figures=figures, failures=failures, summary=summary, sooner=True)
