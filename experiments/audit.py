"""Which terms of the loss get back through the normalizers of a model of your own?

    python -m experiments.audit
    python -m experiments.audit --model package.module:Class --call-options '{"train": true}'
    python -m experiments.audit --model my:Net --model-options '{"features": 32}' --inputs x.npy --labels y.npy

Any linen module class, or a function that makes a linen module, is trained for a moment, or read with `--variables`.
Then `bnjax.audit` takes every normalizer of it in turn, or those of `--layers`: of the loss's Taylor terms at the
normalizer's output, how much gets back through it, as a whole, of what all rows share and of what is individual? The
derivatives are exact (but for `--probes`), in float64, with the statistics of one batch and dropout as drawn from the
seed. Before the training the same is done once, epoch 0, and what can't be audited is refused.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import bnjax
from bnjax.data import random_batches
from bnjax.derivatives.estimated_diagonal import FEWEST_PROBES
from bnjax.derivatives.terms import TERMS
from bnjax.parts import NO_GRADIENT
from experiments.common.command import main
from experiments.common.networks import ImageOptions
from experiments.common.progress import progress
from experiments.own.errors import placed
from experiments.own.figures import figures
from experiments.own.files import Rows, own_rows, own_variables
from experiments.own.model import OwnModel, called_shapes, check_classes, own_model, streams
from experiments.own.training import trained

# What rounding may leave of zero is ε to this power: a quarter of the digits is for sums and derivatives.
DIGITS = 0.75


@dataclass(frozen=True)
class Config(ImageOptions):
    """Audit every normalizer of a model of your own: which terms of the loss get back through it?

    The printed table holds the survivals after training. table.csv (terms), layers.csv (layers) and trunk.csv
    (parameters before a layer) also hold those before it, epoch 0. Random keys of every name that the model asks for,
    such as dropout or drop_path, come from --seed. An nnx model is audited from Python, by bnjax.audit.

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
    """Data of your own in place of a dataset: a .npy file, or an .npz file with the arrays inputs and labels."""
    labels: Path | None = None
    """The labels of inputs in a .npy file."""
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
        return dataclasses.replace(self, model_options='{"hidden": [6]}', rows=6, train_images=128, epochs=1)

    def data(self, *, train: bool) -> Rows:
        """Return the data to train on, or those to audit on; data of one's own are both."""
        if self.inputs is not None:
            return own_rows(self.inputs, self.labels)
        if self.labels is not None:
            raise ValueError("--labels needs --inputs, the data that they belong to")
        images = self.images(train=train)
        return Rows(images.images, images.labels, images.name)


class Batch(NamedTuple):
    """What is audited: a batch, with what is drawn for it; a pytree.

    Attributes:
        inputs: one entry a row.
        labels: one entry a row.
        rngs: the model's random keys.
    """

    inputs: Array
    labels: Array
    rngs: dict[str, Array]


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
        measured[config.epochs] = _audited(config, model, layers, variables, batch)
    return {
        **{
            name: [{"epoch": epoch, **row} for epoch, tables in measured.items() for row in tables[name]]
            for name in ("table", "layers", "trunk")
        },
        "training": [{"epoch": epoch, "loss": loss} for epoch, loss in enumerate(losses, start=1)],
        "data": data.name,
        "training_data": train_data.name,
    }


def _layers(config: Config, paths: list[str]) -> tuple[str, ...]:
    """Return the paths of the layers to audit; ValueError if they are not among the model's normalizers."""
    if not paths:
        raise ValueError(f"--model needs a normalizer of flax's or the library's, but {config.model} applies none")
    for layer in config.layers or ():
        if layer not in paths:
            raise ValueError(f"--layers needs paths of the model's normalizers, among {' '.join(paths)}, got {layer!r}")
    return tuple(path for path in paths if path in (config.layers or paths))


def _audited(
    config: Config, model: OwnModel, layers: tuple[str, ...], variables: dict[str, Any], batch: Batch
) -> dict[str, list[dict[str, Any]]]:
    """Return tables of all layers' terms, of what they leave of `jax.grad`, and of what reaches which parameters."""
    variables, batch = _double((variables, batch))
    options = {"loss": model.loss, "apply_kwargs": dict(model.options), "rngs": batch.rngs}
    kept = ("statistics", "trunk_gradients", "expansion_point", "row_chunk")
    options |= {name: getattr(config, name) for name in kept}
    if config.probes is not None:
        options["probes"] = bnjax.Probes(config.probes, jax.random.key(config.seed))
    reports = {
        layer: bnjax.audit(model.module, variables, batch.inputs, batch.labels, layer=layer, **options)
        for layer in progress(layers, "auditing")
    }
    zeros = {layer: jnp.zeros_like(report.total_gradient) for layer, report in reports.items()}
    actual = _gradients(model, variables, batch, zeros)
    tables = {
        "table": lambda report: map(_filled, report.to_rows()),
        "layers": lambda report: [_check(report, actual[report.layer])],
        "trunk": _reaching,
    }
    return {
        name: [
            {"number": number, **row} for number, report in enumerate(reports.values(), start=1) for row in of(report)
        ]
        for name, of in tables.items()
    }


def _filled(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without what there is for totals alone; a survival that is None has its reason."""
    return {name: value for name, value in row.items() if value is not None or name == "survival"}


def _reaching(report: bnjax.AuditReport) -> list[dict[str, Any]]:
    """Return a row for each term and parameter before a layer, with the norm of the gradient that arrives there."""
    return [
        {"layer": report.layer, "term": term, "parameter": path, "gradient_norm": float(jnp.linalg.norm(gradient))}
        for term, gradients in (report.trunk_gradients or {}).items()
        for path, gradient in gradients.items()
    ]


def _check(report: bnjax.AuditReport, actual: Array) -> dict[str, Any]:
    """Return what a layer's terms leave of the actual gradient at its input, and what of it is not due to what is held.

    `difference` is relative to the terms, which may cancel; `rounding` is what it may be.
    """
    arriving = [np.asarray(part.input_gradient, float) for part in report.terms.values()]
    whole, size = np.asarray(actual, float), sum(map(np.linalg.norm, arriving))
    plain, fast = report.to_dict(), report.fast_variance_error
    left, held = np.linalg.norm(sum(arriving) - whole), (plain["gradient_error"] or 0.0) * np.linalg.norm(whole)
    survival = plain["total_survival"]
    return {
        "layer": report.layer,
        "normalizer": report.normalizer,
        "loss": float(report.loss),
        "survival": survival,
        "reason": NO_GRADIENT if survival is None else "",
        "statistics": report.statistics,
        "held": ", ".join(report.held),
        "gradient_error": plain["gradient_error"],
        **({} if fast is None else {"fast_variance_error": float(fast)}),
        "difference": float(abs(left - held) / (size or 1.0)),
        "rounding": float(jnp.finfo(report.total_gradient.dtype).eps ** DIGITS)
        + (0.0 if fast is None else float(fast)),
    }


@partial(jax.jit, static_argnums=0)
def _gradients(model: OwnModel, variables: dict[str, Any], batch: Batch, zeros: dict[str, Array]) -> dict[str, Array]:
    """Return the gradient of the summed loss at the inputs of layers, as flax alone computes it."""

    def loss(shifts: dict[str, Array]) -> Array:
        def shifted(_: Any, path: str, value: Any, call: Any) -> Any:
            return call(value + shifts[path]) if path in shifts else call(value)

        outputs, _ = model.outputs(variables, batch.inputs, batch.rngs, shifted)
        return jnp.sum(jax.vmap(model.loss)(outputs, batch.labels))

    return jax.grad(loss)(zeros)


def _double(tree: Any) -> Any:
    """Return a tree with its floating-point numbers in float64."""

    def double(leaf: Array) -> Array:
        return leaf.astype(float) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(double, tree)


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
