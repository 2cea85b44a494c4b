"""What passes the normalizers of a model, on the way there and back? One pass for all of them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core.scope import union_filters
from jax.extend.core import get_opaque_trace_state
from jaxtyping import Array, Float

from bnjax.models.interception import apply_around
from bnjax.models.normalizer import SLOPES, Normalization
from bnjax.models.recognition import NORMALIZATIONS, normalizer_of


class Passage(NamedTuple):
    """What passes one normalizer of a network.

    Attributes:
        features: what enters it.
        output: what leaves it, in the same shape.
        gradient: the gradient of a loss with respect to that.
        slope: what the affine phase multiplied ŷ by, noise included; it broadcasts against the output.
        feature_axis: the axis of its features.
    """

    features: Float[Array, "n ..."]
    output: Float[Array, "n ..."]
    gradient: Float[Array, "n ..."]
    slope: Float[Array, "..."]
    feature_axis: int


class Differentiated(NamedTuple):
    """A pass of a model there and back.

    Attributes:
        loss: its loss.
        gradient: the gradient with respect to the collection `params`.
        updated: the collections that it changed, `batch_stats`.
        passages: what passed every normalizer, by its path, from the input on.
    """

    loss: Float[Array, ""]
    gradient: Any
    updated: Mapping[str, Any]
    passages: dict[str, Passage]


def differentiate(
    model: nn.Module,
    variables: Mapping[str, Any],
    inputs: Any,
    loss: Callable[[Any], Float[Array, ""]],
    *,
    rngs: Mapping[str, Array] | None = None,
    **options: Any,
) -> Differentiated:
    """Return the loss of a model and its gradient, with what passes every normalizer, the library's and flax's.

    Args:
        model: any linen module.
        variables: its parameters and statistics, these mutable.
        inputs: its argument, or a tuple of them.
        loss: the loss of its outputs on the batch.
        rngs: its keys.
        **options: what else it is called with, such as `train=True`.

    Raises:
        ValueError: a normalizer has several axes of features, is applied more than once, or is inside of `nn.scan` or
            `nn.remat`, from where nothing can be handed out.
    """
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    state = {name: collection for name, collection in variables.items() if name != "params"}
    params = variables.get("params", {})
    axes: dict[str, int] = {}
    changing = {"rngs": rngs, **options, "mutable": union_filters(options.get("mutable", "batch_stats"), SLOPES)}

    def passed(params: Any, shifts: dict[str, Array]) -> tuple[Array, tuple]:
        outside = get_opaque_trace_state(convention="flax")
        entering: dict[str, Array] = {}
        leaving: dict[str, Array] = {}
        slopes: dict[str, Array] = {}

        def note(module: nn.Module, name: str, value: Any, call: Callable[[Any], Any]) -> Any:
            if not isinstance(module, NORMALIZATIONS):
                return call(value)
            place = name or "the model"
            if get_opaque_trace_state(convention="flax") != outside:
                raise ValueError(f"{place} is inside of nn.scan or nn.remat; measure the model without these")
            if name in entering:
                raise ValueError(f"every normalizer needs to be applied once, got {place} applied several times")
            normalizer = normalizer_of(module, value)
            axes[name] = normalizer.feature_axis if normalizer else -1
            entering[name], leaving[name] = value, call(value)
            slopes[name] = _slope(module, place, value.ndim, axes[name])
            return leaving[name] + shifts[name] if shifts else leaving[name]

        outputs, updated = apply_around(note, model, {**state, "params": params}, *arguments, **changing)
        updated = {name: collection for name, collection in updated.items() if name != SLOPES}
        return loss(outputs), (entering, leaving, slopes, updated)

    shapes = jax.eval_shape(passed, params, {})[1][1]
    shifts = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
    differentiated = jax.value_and_grad(passed, (0, 1), has_aux=True)(params, shifts)
    (value, (entering, leaving, slopes, updated)), (gradient, at_output) = differentiated
    through = {
        name: Passage(entering[name], leaving[name], at_output[name], slopes[name], axis) for name, axis in axes.items()
    }
    return Differentiated(value, gradient, updated, through)


def passages(
    model: nn.Module,
    variables: Mapping[str, Any],
    inputs: Any,
    loss: Callable[[Any], Float[Array, ""]],
    *,
    rngs: Mapping[str, Array] | None = None,
    **options: Any,
) -> dict[str, Passage]:
    """Return what passes every normalizer of a model, on the way there and back; arguments as in `differentiate`."""
    return differentiate(model, variables, inputs, loss, rngs=rngs, **options).passages


def _slope(module: nn.Module, place: str, dimensions: int, feature_axis: int) -> Array:
    variables: Mapping[str, Any] = nn.unbox(module.variables)
    if isinstance(module, Normalization):
        return variables[SLOPES]["slope"]
    scale = variables.get("params", {}).get("scale", 1.0)
    if jnp.ndim(scale) > 1:
        raise ValueError(
            f"{place} needs one axis of features, for batch normalization removes something of each, got "
            f"a scale of shape {jnp.shape(scale)}; build it with one, or measure the model without it"
        )
    shape = [1] * dimensions
    shape[feature_axis] = -1
    return jnp.reshape(scale, shape)
