"""Which terms of a model's loss get back through one of its normalizers? Any linen module, unchanged."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Float

from bnjax.audit_checks import JOINT_LIMIT, as_application, as_inputs, check_layer, check_rows
from bnjax.audit_report import AuditReport
from bnjax.blocking import assemble, split_loss
from bnjax.compilation import in_full_precision
from bnjax.derivatives.estimated_diagonal import Probes, check_probes
from bnjax.derivatives.heads import Head, LogitsHead, as_pytree
from bnjax.derivatives.norms import norms
from bnjax.derivatives.terms import PARTS, RowHeads, Terms
from bnjax.derivatives.transport import pull_back
from bnjax.devices import automatic
from bnjax.models.dependence import dependence
from bnjax.models.given import as_linen, explained
from bnjax.models.held import Held
from bnjax.models.recording import Recording, entering, record
from bnjax.models.rest import Application, Call, Rest, row_output
from bnjax.models.row_losses import row_losses
from bnjax.normalizers.normalizer import Normalizer
from bnjax.problem import Problem, as_row_arguments, check_chunks, check_signature, pose, standardize


@in_full_precision
def audit(
    model: nn.Module | nnx.Module,
    variables: Mapping[str, Any] | None,
    inputs: Any,
    /,
    *row_arguments: Any,
    loss: Callable[..., Array],
    layer: str = "",
    apply_kwargs: Mapping[str, Any] | None = None,
    rngs: Any = None,
    statistics: Literal["held", "joint"] = "held",
    trunk_gradients: bool = False,
    expansion_point: ArrayLike = 0.0,
    chunk: int = 64,
    row_chunk: int | None = 32,
    probes: Probes | None = None,
) -> AuditReport:
    """Return which terms of `L = Σ_i loss(model(inputs)_i, …)`, a sum, get back through a normalizer inside of a model.

    The model is trunk → layer → rest, and the layer's statistics are those of the batch. What the rest makes of each
    row's own inputs is the head of `bnjax.blocking`, with dropout as drawn for the batch. What goes around the layer,
    as in a residual network, is an input of the rest: survival counts what gets back through the layer alone. Where the
    outputs of a row are one vector, no longer than what leaves the layer and piecewise linear in it, the exact low-rank
    path is taken.

    Other normalizers with batch statistics mix the rows. Those before the layer, or beside it, do not vary with what
    leaves it. Those behind it do, and a definition is needed (docs/theory.md, inside a model):

    - `statistics="held"`: their statistics stay those of the batch. The terms add up to the gradient of that loss; the
      report names the normalizers (`held`), and by how much its gradient is off the actual one (`gradient_error`).
    - `statistics="joint"`: the loss of all rows together is expanded, with all statistics live, for up to 1,024 entries
      (rows times features) that leave the layer; `off_diagonal` holds the products of two entries of one row and of two
      rows. Totals only; they add up to the actual gradient.

    Compiled once per model, loss and shapes; new variables and inputs compile nothing. It looks at values, and so
    can't be called under `jax.jit`.

    Memory is, for n rows that have D entries at the layer and k outputs, at most (60 + k + 9 · probes) · n · D numbers,
    the larger of two passes, and the variables. One pass goes through the whole model with all rows, since statistics
    are the batch's; it takes what a training step on the batch takes (`trunk_gradients` another one, which also keeps
    the four terms' gradients of all parameters). The other goes through the rest of the model with `row_chunk` rows,
    each k times, or `chunk` times where the outputs are not piecewise linear (docs/theory.md, cost).

    Args:
        model: any linen module that holds the normalizer as flax's `nn.BatchNorm`, `nn.LayerNorm`, `nn.RMSNorm`,
            `nn.GroupNorm`, `nn.InstanceNorm`, or as the library's `Normalization`; or any nnx model with those of
            `nnx`, which stays as it is. Call its `train()` before.
        variables: all that `model.init` returns; `batch_stats` are mutable, as in training. None for an nnx model.
        inputs: the model's argument, an array with one entry a row, or a tuple of its arguments.
        *row_arguments: further arguments of the loss, with one entry a row.
        loss: `loss(output_row, *row_arguments_i) -> scalar`, of one row of what the model returns.
        layer: the path of the normalizer, such as `"block2/bn1"`, of an nnx model `"blocks/1/bn1"`; a wrong one, or
            none, lists the right ones.
        apply_kwargs: what else the model is called with, such as `{"train": True}`; hashable.
        rngs: its keys, such as `{"dropout": key}`; an nnx model has its own.
        statistics: "held" or "joint", see above.
        trunk_gradients: also carry each term's gradient on, from the layer's input to the parameters before it.
        expansion_point: c, a number or an array that broadcasts to a row, in standardized coordinates. At 0 a ReLU
            right behind a layer whose bias is 0 is on its kink, and all is `remainder`: take 0.5. With "joint" the
            statistics behind the layer have no spread there: their derivatives grow like 1/√ε.
        chunk: how many Hessian columns are worked on at once, where the outputs are not piecewise linear; less needs
            less memory and more time.
        row_chunk: how many rows go through the rest at once, None for all; the report is the same for every one. Take
            fewer where memory is short, all where a CPU has it: flax's own convolutions are several times slower there
            in the loop over chunks.
        probes: `bnjax.Probes(count, key)` estimates the diagonals of the rows' Hessians from so many products in place
            of D columns, where the outputs are not piecewise linear; not with "joint".

    Returns:
        An `AuditReport`: `print` it; `.terms["diagonal"].shared.survival`, `.held`, `.gradient_error`,
        `.trunk_gradients`; `.to_rows()`, `.to_dict()`, `.plot()`. `help(bnjax.AuditReport)` tells of each.

    Raises:
        TypeError: a model that is none of flax's or does not take the inputs, variables that are no collections,
            arguments that are not hashable, a call under `jax.jit`.
        ValueError: a layer that is not one of the model's normalizers, is applied more than once or stands inside of
            `nn.scan` or `nn.remat`; one that uses running statistics; missing `batch_stats` or keys; inputs of
            different numbers of rows; a loss that is not of one row; a model that takes no row alone (with "joint"
            too); rows that are mixed by something else than normalizers; and as in `blocking`.

    Example:
        >>> class Model(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x, train):
        ...         x = nn.BatchNorm(use_running_average=not train, epsilon=0.0, name="norm")(nn.Dense(3)(x))
        ...         return nn.Dense(2)(nn.tanh(x))
        >>> x = jnp.sin(jnp.arange(20.0)).reshape(5, 4)
        >>> variables = Model().init(jax.random.key(0), x, False)
        >>> options = {"loss": lambda y: jnp.sum((y - 1) ** 2), "apply_kwargs": {"train": True}}
        >>> report = audit(Model(), variables, x, layer="norm", **options)
        >>> bool(report.terms["gradient"].shared.survival < 1e-4)
        True
    """
    check_chunks(chunk, row_chunk)
    check_probes(probes)
    if statistics not in ("held", "joint"):
        raise ValueError(f"statistics needs to be 'held' or 'joint', got {statistics!r}")
    if statistics == "joint" and probes is not None:
        raise ValueError("statistics='joint' is exact for the small batches that it takes, got probes; leave them out")
    inputs = as_inputs(inputs)
    variables = jax.tree.map(automatic, nn.unbox(variables))
    model, variables = as_linen(model, variables, inputs, apply_kwargs or {}, rngs)
    application = as_application(model, layer, apply_kwargs or {})
    rows = len(jax.tree.leaves(inputs)[0])
    row_arguments = as_row_arguments(row_arguments, rows)
    check_signature(loss, len(row_arguments))
    loss = as_pytree(loss)
    with explained(model, inputs):
        recording = _recorded(application, loss, variables, inputs, row_arguments, rngs)
    check_layer(recording, rows, layer)

    held = {call: recording.held[call] for call, live in jax.device_get(recording.live).items() if live}
    problem = pose(
        *_row_heads(application, recording, held, loss, variables, inputs, rngs),
        *row_arguments,
        params=recording.layer.params,
        stats=recording.layer.stats,
        expansion_point=expansion_point,
    )
    if statistics == "held":
        axis, standardized = problem.feature_axis, standardize(problem)
        at_once: dict[str, Any] = {"feature_axis": axis, "chunk": chunk, "row_chunk": row_chunk}
        split = split_loss(problem.row_heads(), problem.center, standardized, probes=probes, **at_once)
        check_rows(split.losses, recording, layer)
        parts, behind = PARTS, tuple(dict.fromkeys(call[0] for call in recording.behind if call in held))
    else:
        rest = _rest(application, recording, {}, variables, rngs)
        split = _joint_terms(problem, Partial(_batch_loss, rest, loss, inputs, row_arguments), chunk=chunk)
        parts, behind = ("total",), ()
    report = assemble(problem, split, parts=parts)
    trunk = None
    if trunk_gradients:
        arriving = OrderedDict((term, part.input_gradient) for term, part in report.terms.items())
        trunk = _trunk_gradients(application, variables, inputs, rngs, arriving)
    return AuditReport(
        **vars(report),
        gradient_error=_gradient_error(problem, report.total_gradient, recording.output_gradient),
        fast_variance_error=recording.layer.relative_error if recording.layer.fast_variance else None,
        trunk_gradients=trunk,
        layer=layer,
        statistics=statistics,
        held=behind,
    )


@partial(jax.jit, static_argnames=("application",))
def _recorded(
    application: Application, loss: Head, variables: Mapping[str, Any], inputs: tuple, row_arguments: tuple, rngs: Any
) -> Recording:
    return record(application, partial(_row_losses, loss, inputs, row_arguments), variables, inputs, rngs)


def _row_losses(loss: Head, inputs: tuple, row_arguments: tuple, outputs: Any) -> Float[Array, " n"]:
    """Return the losses of the rows of a model's outputs; ValueError unless both have rows."""
    rows, shapes = len(jax.tree.leaves(inputs)[0]), [jnp.shape(leaf) for leaf in jax.tree.leaves(outputs)]
    if not shapes or any(shape[:1] != (rows,) for shape in shapes):
        raise ValueError(
            f"the model needs to return one entry for each of the {rows} rows, got shapes {shapes}; wrap it so that it "
            "returns what the loss of a row needs, without sums or means over the batch"
        )
    return row_losses(loss, outputs, row_arguments)


def _row_heads(
    application: Application,
    recording: Recording,
    held: dict[Call, Held],
    loss: Head,
    variables: Mapping[str, Any],
    inputs: tuple,
    rngs: Any,
) -> tuple[Head, Normalizer, Array, tuple]:
    """Return the head behind the layer, the normalizer, what enters it, and what the head needs of each row."""
    rows = len(recording.layer.features)
    # Rows may be joined with positions in one axis.
    of_rows = {call: of_call.by_row(rows) for call, of_call in held.items() if of_call.length % rows == 0}
    rest = _rest(application, recording, held, variables, rngs)
    outputs = recording.outputs
    if isinstance(outputs, Array) and outputs.ndim == 2 and outputs.shape[1] <= recording.layer.features[0].size:
        head = LogitsHead(Partial(row_output, rest), loss, context=1)
    else:
        head = Partial(_row_loss, rest, loss)
    return head, recording.layer.normalizer, recording.layer.features, (inputs, of_rows)


def _rest(
    application: Application, recording: Recording, held: dict[Call, Held], variables: Mapping[str, Any], rngs: Any
) -> Rest:
    row_shapes = tuple(leaf.shape[1:] for leaf in jax.tree.leaves(recording.outputs))
    return Rest(variables, rngs, held, application, recording.layer.output.dtype, row_shapes)


def _row_loss(rest: Rest, loss: Head, row: Array, context: tuple, *row_arguments: Any) -> Float[Array, ""]:
    return loss(row_output(rest, row, context), *row_arguments)


def _batch_loss(rest: Rest, loss: Head, inputs: tuple, row_arguments: tuple, y: Float[Array, "n ..."]) -> Array:
    return jnp.sum(_row_losses(loss, inputs, row_arguments, rest(y, inputs)))


def _joint_terms(problem: Problem, loss: Head, *, chunk: int) -> Terms:
    """Return the terms of a loss of all rows together: those of `terms`, of one row that is the whole batch."""
    if problem.x.size > JOINT_LIMIT:
        raise ValueError(
            f"statistics='joint' takes at most {JOINT_LIMIT} entries of a batch, got {problem.x.size}; use fewer rows "
            "or statistics='held'"
        )
    by_row = problem.row_heads()
    heads = RowHeads(loss, by_row.slope[None], by_row.offset[None], ())
    center = jnp.broadcast_to(problem.center, problem.x.shape)
    standardized = standardize(problem)[None]
    split = split_loss(heads, center, standardized, feature_axis=problem.feature_axis, chunk=chunk)
    return split._replace(gradients=split.gradients[:, 0], loss_gradient=split.loss_gradient[0])


@partial(jax.jit, static_argnames=("application",))
def _trunk_gradients(
    application: Application, variables: Mapping[str, Any], inputs: tuple, rngs: Any, arriving: OrderedDict[str, Array]
) -> OrderedDict[str, dict[str, Array]]:
    """Return gradients at the layer's input carried back to the parameters that it depends on, by path."""

    def features(params: dict[str, Array]) -> Array:
        return entering(application, {**variables, "params": unflatten_dict(params, sep="/")}, inputs, rngs)

    params: dict[str, Any] = flatten_dict(variables.get("params", {}), sep="/")
    _, transpose = jax.vjp(features, params)
    (used,) = dependence(features, params)
    names = [name for name, is_used in zip(sorted(params), used, strict=True) if is_used]
    stacked = jax.lax.map(lambda gradient: transpose(gradient)[0], jnp.stack(list(arriving.values())))
    return OrderedDict((term, {name: stacked[name][index] for name in names}) for index, term in enumerate(arriving))


@jax.jit
def _gradient_error(problem: Problem, found: Array, output_gradient: Array) -> Float[Array, ""]:
    """Return ‖found - actual‖ / ‖actual‖ at the input, NaN if that is 0; the actual gradient is given at the output."""
    at_output = problem.row_heads().slope * output_gradient
    actual = pull_back(problem.standardization, problem.x, at_output[None])
    size = norms(actual)[0]
    return jnp.where(size > 0, norms(found - actual)[0] / jnp.where(size > 0, size, 1), jnp.nan)
