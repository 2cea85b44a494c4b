"""Which filters are collapsed, so that a ReLU passes nothing of them? The margins at the normalizers before it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var, get_opaque_trace_state
from jaxtyping import Array, Float

from bnjax.models.interception import apply_around
from bnjax.models.recognition import NORMALIZATIONS, feature_axis_of
from bnjax.normalizers.moments import batch_axes


def filter_margins(
    model: nn.Module, variables: Mapping[str, Any], *inputs: Array, **options: Any
) -> dict[str, Float[Array, " filters"]]:
    """Return the margin of every filter whose normalizer stands directly before a ReLU, from the input on.

    The margin of z = γx̂ + β (+ α) is its largest entry over rows and positions: where it is negative the filter is
    *collapsed*, relu(z) is 0 throughout, and γ and β get no gradient (docs/theory.md, F1). Over several batches the
    margin is the largest of theirs.

    Args:
        model: any linen module.
        variables: its parameters and statistics.
        *inputs: what the model is applied to.
        **options: further arguments of the model, such as `mode="running"`, or `mode="batch", mutable=["batch_stats"]`
            for the statistics of this batch.

    Raises:
        ValueError: a normalizer is applied more than once, or inside of a loop, a rematerialized or a compiled part
            (`nn.scan`, `nn.remat`, `nn.jit`), from where nothing can be handed out; an input without rows.
    """
    if any(len(rows) == 0 for rows in inputs):
        raise ValueError(f"margins need at least one row, got inputs {[rows.shape for rows in inputs]}")
    outside = get_opaque_trace_state(convention="flax")
    margins: dict[str, Array] = {}
    names = before_relu(model, variables, *inputs, **options)

    def note(module: nn.Module, name: str, value: Array, call: Callable[[Array], Any]) -> Any:
        output = call(value)
        if isinstance(module, NORMALIZATIONS) and name in names:
            if get_opaque_trace_state(convention="flax") != outside:
                raise ValueError(f"{name} is inside of nn.scan, nn.remat or nn.jit; measure the model without these")
            if name in margins:
                raise ValueError(f"every normalizer needs to be applied once, got {name} applied several times")
            margins[name] = jnp.max(output, axis=batch_axes(output, feature_axis_of(module, value)))
        return output

    apply_around(note, model, variables, *inputs, **options)
    return margins


def before_relu(model: nn.Module, variables: Mapping[str, Any], *inputs: Array, **options: Any) -> list[str]:
    """Return the normalizers whose output goes into ReLUs and nowhere else; nothing is computed.

    It is read off the model's program. What goes into a residual sum first, or through a loop, is none.

    Arguments as in `filter_margins`.
    """
    names: list[str] = []

    def named(module: nn.Module, name: str, value: Array, call: Callable[[Array], Any]) -> Any:
        if not isinstance(module, NORMALIZATIONS):
            return call(value)
        names.append(name)
        return checkpoint_name(call(value), name)

    def program(variables: Mapping[str, Any], *inputs: Array) -> Any:
        return apply_around(named, model, variables, *inputs, **options)

    closed = jax.make_jaxpr(program)(variables, *inputs)
    return [name for name in dict.fromkeys(names) if _is_rectified(closed.jaxpr, name)]


def _is_rectified(jaxpr: Jaxpr, name: str) -> bool:
    """Return whether what has that name goes into ReLUs only, in the program that names it."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "name" and equation.params["name"] == name:
            return _goes_into_relu(jaxpr, equation.outvars[0])
    return any(_is_rectified(program, name) for equation in jaxpr.eqns for program in _programs(equation))


def _goes_into_relu(jaxpr: Jaxpr, variable: Var) -> bool:
    """Return whether a variable has uses in a program, each of which is `max(variable, 0)`."""
    uses = [equation for equation in jaxpr.eqns if any(atom is variable for atom in equation.invars)]
    return bool(uses) and variable not in jaxpr.outvars and all(_is_relu(equation, variable) for equation in uses)


def _is_relu(equation: Any, variable: Var) -> bool:
    if equation.primitive.name == "max":
        return any(isinstance(atom, Literal) and not np.any(atom.val) for atom in equation.invars)
    programs = list(_programs(equation))
    # Of calls the operands are those of the program inside, one for one.
    if len(programs) != 1 or len(programs[0].invars) != len(equation.invars):
        return False
    inner = [own for own, atom in zip(programs[0].invars, equation.invars, strict=True) if atom is variable]
    return all(_goes_into_relu(programs[0], own) for own in inner)


def _programs(equation: Any) -> Iterator[Jaxpr]:
    for value in equation.params.values():
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
