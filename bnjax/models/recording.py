"""What happens to each row of a batch inside of a model? Recorded once, so that it can be done to a row alone.

What batch statistics and dropout do to a row is, once they are known, an affine map of its entries, `Held`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend.core import get_opaque_trace_state
from jaxtyping import Array, Bool, Float

from bnjax.models.dependence import dependence
from bnjax.models.held import AtWork, Held, at_work
from bnjax.models.recognition import NORMALIZATIONS, normalizer_of, state_of
from bnjax.models.rest import Application, Call
from bnjax.normalizers import Normalizer
from bnjax.normalizers.moments import statistics_dtype
from bnjax.normalizers.normalizer import Params, Stats


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AtLayer:
    """What a layer did, and which normalizer it is; a pytree.

    Attributes:
        features: what entered it.
        output: what left it.
        params: the parameters of its normalizer.
        stats: its statistics.
        error: the largest difference of the output from what the normalizer makes of the features, in units of what
            rounding allows.
        relative_error: the same, relative to the largest entry.
        normalizer: the normalizer.
        fast_variance: whether the layer takes the variance as E[x²] - E[x]².
    """

    features: Float[Array, "n ..."]
    output: Float[Array, "n ..."]
    params: Params
    stats: Stats
    error: Float[Array, ""]
    relative_error: Float[Array, ""]
    normalizer: Normalizer = field(metadata={"static": True})
    fast_variance: bool = field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Recording:
    """A model's pass over a batch, seen from one of its layers; a pytree.

    Attributes:
        layer: what the layer did.
        outputs: the model's.
        losses: of the rows.
        output_gradient: the gradient of their sum with respect to what left the layer, all statistics live.
        held: what the calls of dropout and of other normalizers with batch statistics did to the rows.
        live: whether each of those calls did that, rather than use running statistics.
        behind: which calls of normalizers come behind the layer.
        hidden: normalizers and dropout inside of `nn.scan`, `nn.remat` and the like, of which nothing is seen.
    """

    layer: AtLayer
    outputs: Any
    losses: Float[Array, " n"]
    output_gradient: Float[Array, "n ..."]
    held: dict[Call, Held]
    live: dict[Call, Bool[Array, ""]]
    behind: tuple[Call, ...] = field(metadata={"static": True})
    hidden: tuple[str, ...] = field(metadata={"static": True})


def record(
    application: Application,
    losses: Callable[[Any], Float[Array, " n"]],
    variables: Mapping[str, Any],
    inputs: tuple,
    rngs: Any,
) -> Recording:
    """Return what happens to each row of a batch around one layer of a model, in one pass there and back.

    Args:
        application: the model and the layer.
        losses: the losses of the rows, of the model's outputs.
        variables: parameters and statistics.
        inputs: the arguments of the model.
        rngs: the keys of its dropout.

    Raises:
        ValueError: a layer that is no normalizer, is applied more than once, or is inside of `nn.scan` or `nn.remat`;
            running statistics that are missing; a normalizer with noise of its own.
    """

    def passed(shift: Array | None) -> tuple[Any, _Seen]:
        return _pass(application, variables, inputs, rngs, shift)

    shape = jax.eval_shape(lambda: passed(None)[1].layer.output)
    shift = jnp.zeros(shape.shape, shape.dtype)

    def loss(shift: Array) -> tuple[Array, tuple[Any, Array, _Seen]]:
        outputs, seen = passed(shift)
        of_rows = losses(outputs)
        return jnp.sum(of_rows), (outputs, of_rows, seen)

    output_gradient, (outputs, of_rows, seen) = jax.grad(loss, has_aux=True)(shift)
    reached = dependence(lambda shift: passed(shift)[1].entering, shift)
    return Recording(
        layer=seen.layer,
        outputs=outputs,
        losses=of_rows,
        output_gradient=output_gradient,
        held=seen.held,
        live=seen.live,
        behind=tuple(call for call, (behind,) in zip(sorted(seen.entering), reached, strict=True) if behind),
        hidden=seen.hidden,
    )


def entering(application: Application, variables: Mapping[str, Any], inputs: tuple, rngs: Any) -> Float[Array, "n ..."]:
    """Return what enters the layer; arguments as in `record`."""
    return _pass(application, variables, inputs, rngs, None)[1].layer.features


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Seen:
    """What is seen of a pass; the fields are those of `Recording`, `entering` what enters each of the calls."""

    layer: AtLayer
    held: dict[Call, Held]
    live: dict[Call, Array]
    entering: dict[Call, Array]
    hidden: tuple[str, ...] = field(metadata={"static": True})


def _pass(
    application: Application, variables: Mapping[str, Any], inputs: tuple, rngs: Any, shift: Array | None
) -> tuple[Any, _Seen]:
    """Return the model's outputs with `shift` added to what leaves the layer, and what is seen on the way."""
    outside = get_opaque_trace_state(convention="flax")
    calls: Counter[str] = Counter()
    kinds: dict[str, str] = {}
    normalizers, hidden, layers = [], [], []
    held: dict[Call, Held] = {}
    live: dict[Call, Array] = {}
    values: dict[Call, Array] = {}

    def around(module: nn.Module, name: str, value: Any, call: Callable[[Any], Any]) -> Any:
        kinds[name] = type(module).__name__
        if isinstance(module, NORMALIZATIONS):
            normalizers.append(name)
        elif not isinstance(module, nn.Dropout):
            return call(value)
        if get_opaque_trace_state(convention="flax") != outside:
            hidden.append(name)
            return call(value)
        place = (name, calls[name])
        calls[name] += 1
        if isinstance(module, nn.Dropout):
            mask = _mask(value, call)
            if mask is None:
                return value
            held[place], live[place] = mask, jnp.array(True)
            return mask(value)
        normalizer = normalizer_of(module, value)
        if name == application.layer:
            layers.append(_layer(module, normalizer, value, call))
            return layers[-1].output if shift is None else layers[-1].output + shift
        params, stats = state_of(module, normalizer, value) if normalizer else ({}, {})
        output = call(value)
        if normalizer and stats:  # Without, there are no statistics of a batch to hold.
            seen = _at_work(module, normalizer, params, stats, value)
            held[place], values[place] = seen.held(output.dtype), value
            live[place] = seen.error(output, fast_variance=_fast_variance(module)) <= 1
        return output

    outputs = application(around, variables, inputs, rngs)
    _check_layer(application, normalizers, hidden, kinds)
    return outputs, _Seen(layers[0], held, live, values, tuple(dict.fromkeys(hidden)))


def _mask(value: Array, call: Callable[[Array], Any]) -> Held | None:
    """Return what dropout does to the rows, None if it is not active."""
    ones = jnp.ones(value.shape, statistics_dtype(value.dtype))
    kept = call(ones)
    zeros = jnp.zeros((1,) * value.ndim, kept.dtype)
    return None if kept is ones else Held(zeros, kept, zeros, value.dtype)


def _layer(module: nn.Module, normalizer: Normalizer | None, x: Array, call: Callable[[Array], Array]) -> AtLayer:
    if normalizer is None:
        axes = {name: value for name, value in vars(module).items() if name.endswith(("axis", "axes"))}
        raise ValueError(
            f"layer {'/'.join(module.path)!r} needs statistics over axes that a normalizer of the library takes them "
            f"over, and one axis of features; got {type(module).__name__} with {axes} on an input of shape {x.shape}"
        )
    params, stats = state_of(module, normalizer, x)
    output = call(x)
    seen, fast = _at_work(module, normalizer, params, stats, x), _fast_variance(module)
    expected = seen.output()
    relative = jnp.max(jnp.abs(output - expected)) / (jnp.max(jnp.abs(expected)) + jnp.finfo(output.dtype).tiny)
    error = seen.error(output, fast_variance=fast)
    return AtLayer(x, output, params, stats, error, relative, normalizer, fast)


def _at_work(module: nn.Module, normalizer: Normalizer, params: Params, stats: Stats, x: Array) -> AtWork:
    try:
        return at_work(normalizer, params, stats, x)
    except ValueError as error:
        raise ValueError(
            f"{'/'.join(module.path)} does something that can't be repeated from outside of the model: {error}"
        ) from None


def _fast_variance(module: nn.Module) -> bool:
    return getattr(module, "use_fast_variance", False)


def _check_layer(application: Application, normalizers: list[str], hidden: list[str], kinds: dict[str, str]) -> None:
    """Raise ValueError unless the layer is a normalizer that is called once, where it can be seen."""
    layer = application.layer
    if not normalizers:
        raise ValueError(
            f"the model needs a normalizer of the library's or of flax's, got {type(application.model).__name__}, "
            "which applies none"
        )
    if layer not in normalizers:
        kind = f", a {kinds[layer]}" if layer in kinds else ""
        raise ValueError(
            f"layer needs to be one string, the path of a normalizer, one of {list(dict.fromkeys(normalizers))}, got "
            f"{layer!r}{kind}"
        )
    if layer in hidden:
        raise ValueError(
            f"layer {layer!r} is inside of nn.scan, nn.remat, nn.jit or the like, from where nothing can be handed "
            "out; build the model without these"
        )
    if normalizers.count(layer) > 1:
        raise ValueError(f"layer {layer!r} is applied {normalizers.count(layer)} times, it needs to be applied once")
