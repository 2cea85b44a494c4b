"""What happens inside of a model? Any linen module, with something around the calls of its parts."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn

# What to make of a call: the module, where its variables are, its input, and the call, which takes an input.
Around = Callable[[nn.Module, str, Any, Callable[[Any], Any]], Any]


def apply_around(around: Around, model: nn.Module, variables: Mapping[str, Any], *inputs: Any, **options: Any) -> Any:
    """Return what `model.apply` returns, with `around(module, name, input, call)` in place of its modules' calls.

    `name` is where a module's variables are, such as `block/Normalization_0`; it is empty for the model itself. The
    input is the first of a call's arguments, given by place or by name; a call without any stays what it is, and so
    does another method than `__call__`. `call(input)` is what the module makes of that input, all else equal.

    Args:
        around: what to make of each call, from the outermost on.
        model: any linen module.
        variables: its parameters and statistics.
        *inputs: what the model is applied to.
        **options: further arguments of the model or of `model.apply`, such as `mode="running"` or `rngs`.
    """

    def intercepted(call: Callable[..., Any], args: tuple, kwargs: dict[str, Any], context: Any) -> Any:
        module: nn.Module = context.module
        if context.method_name != "__call__" or not (args or kwargs):
            return call(*args, **kwargs)
        name = "/".join(module.path)
        if args:
            return around(module, name, args[0], lambda value: call(value, *args[1:], **kwargs))
        first = next(iter(kwargs))
        return around(module, name, kwargs[first], lambda value: call(**{**kwargs, first: value}))

    with nn.intercept_methods(intercepted):
        return model.apply(variables, *inputs, **options)


def names_of(
    model: nn.Module, variables: Mapping[str, Any], *inputs: Any, of: Callable[[nn.Module], bool], **options: Any
) -> list[str]:
    """Return where the variables of a model's modules are, in the order of their calls; nothing is computed.

    A module that is called several times is named as often.

    Args:
        model, variables, inputs, options: as in `apply_around`.
        of: which modules are meant.
    """
    names: list[str] = []

    def note(module: nn.Module, name: str, value: Any, call: Callable[[Any], Any]) -> Any:
        if of(module):
            names.append(name)
        return call(value)

    def apply(variables: Mapping[str, Any], *inputs: Any) -> Any:
        return apply_around(note, model, variables, *inputs, **options)

    jax.eval_shape(apply, variables, *inputs)
    return names
