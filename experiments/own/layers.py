"""What gets back through the normalizers of a model of the user's own, and which of them can't be audited?"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import bnjax
from bnjax.parts import NO_GRADIENT
from experiments.common.progress import progress
from experiments.own.errors import as_typed, placed
from experiments.own.model import OwnModel

# What rounding may leave of zero is ε to this power: a quarter of the digits is for sums and derivatives.
DIGITS = 0.75

Tables = dict[str, list[dict[str, Any]]]


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


def audited(
    model: OwnModel, layers: Mapping[str, int], variables: dict[str, Any], batch: Batch, options: dict[str, Any]
) -> Tables:
    """Audit layers in float64, one after the other.

    Args:
        model: the model.
        layers: the paths of the layers, with the numbers that they have in the tables.
        variables: the model's variables.
        batch: what to audit on.
        options: further options of `bnjax.audit`.

    Returns:
        The tables `table` of all layers' terms, `layers` of what they leave of `jax.grad`, `trunk` of what reaches
        which parameters, and `refused` of the layers that can't be audited, with the reason.
    """
    variables, batch = _double((variables, batch))
    options = {"loss": model.loss, "apply_kwargs": dict(model.options), "rngs": batch.rngs, **options}
    reports, refused = {}, []
    for layer in progress(layers, "auditing"):
        try:
            with placed():
                reports[layer] = bnjax.audit(
                    model.module, variables, batch.inputs, batch.labels, layer=layer, **options
                )
        except (ValueError, TypeError) as error:
            refused.append({"layer": layer, "reason": as_typed(str(error))})
    zeros = {layer: jnp.zeros_like(report.total_gradient) for layer, report in reports.items()}
    actual = _gradients(model, variables, batch, zeros) if zeros else {}
    tables = {
        "table": lambda report: map(_filled, report.to_rows()),
        "layers": lambda report: [_check(report, actual[report.layer])],
        "trunk": _reaching,
    }
    return {
        **{
            name: [{"number": layers[layer], **row} for layer, report in reports.items() for row in of(report)]
            for name, of in tables.items()
        },
        "refused": refused,
    }


def reasons(refused: Iterable[Mapping[str, Any]]) -> str:
    """Return the layers of rows of the table `refused`, each reason said once.

    Example:
        >>> reasons([{"layer": layer, "reason": "no batch"} for layer in ("first", "second")])
        'first, second: no batch'
    """
    layers: dict[str, list[str]] = {}
    for row in refused:
        layers.setdefault(row["reason"], []).append(row["layer"])
    return "; ".join(f"{', '.join(alike)}: {reason}" for reason, alike in layers.items())


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
