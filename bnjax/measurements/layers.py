"""Which layers does a network apply, in which order, and to what? Any linen module, by interception of its calls."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flax import linen as nn
from jaxtyping import Array

from bnjax.models.interception import apply_around, names_of


class AppliedLayer(NamedTuple):
    """One application of a layer that has a kernel: a linear layer or a convolution.

    Attributes:
        name: where its parameters are in the collection `params`, such as `last`.
        input: what it was applied to.
    """

    name: str
    input: Array


def applied_layers(
    model: nn.Module, variables: Mapping[str, Any], *inputs: Array, **options: Any
) -> tuple[Any, list[AppliedLayer]]:
    """Return a model's output, and its layers with a kernel in the order of their application, from the input on.

    Args:
        model: any linen module.
        variables: its parameters and statistics.
        *inputs: what the model is applied to.
        **options: further arguments of the model, such as `mode="running"`.
    """
    layers: list[AppliedLayer] = []

    def note(module: nn.Module, name: str, value: Array, call: Callable[[Array], Any]) -> Any:
        if _has_kernel(module):
            layers.append(AppliedLayer(name, value))
        return call(value)

    return apply_around(note, model, variables, *inputs, **options), layers


def layer_names(model: nn.Module, variables: Mapping[str, Any], *inputs: Array, **options: Any) -> list[str]:
    """Return the names of the layers with a kernel in the order of their first application; nothing is computed.

    Arguments as in `applied_layers`.
    """
    return list(dict.fromkeys(names_of(model, variables, *inputs, of=_has_kernel, **options)))


def _has_kernel(module: nn.Module) -> bool:
    return module.has_variable("params", "kernel")
