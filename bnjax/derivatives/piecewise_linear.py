"""Is a function piecewise linear, so that its second derivative is zero wherever it exists?

The answer is read off the program of the first derivative: it may depend on the input only through steps
(comparisons, integers, signs), which are constant almost everywhere.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import Array

# Floating-point results of these do not vary with their input, almost everywhere.
_STEPS = {"sign", "floor", "ceil", "round", "stop_gradient"}
_MUTATING = {"new_ref", "ref", "get", "swap", "addupdate", "freeze", "empty_ref"}
# The first operand is selected, the second only says where.
_SELECTS_BY_SECOND = {"select_and_gather_add"}


def is_piecewise_linear(function: Callable[[Array], Array], point: Array) -> bool:
    """Return whether the derivative of `function` is a step function of its input, to the best of a static check.

    `True` is a proof (up to the points where the derivative jumps). `False` may only mean that the program uses
    something the check does not see through, such as a loop or a custom reverse rule.
    """

    def derivative(row: Array) -> Array:
        return jax.jvp(function, (row,), (jnp.ones_like(row),))[1]

    try:
        closed = jax.make_jaxpr(derivative)(jax.ShapeDtypeStruct(point.shape, point.dtype))
    except TypeError:  # no forward-mode derivative, a custom_vjp function
        return False
    # What is written to a mutable array does not show in the outputs that are followed.
    return not closed.jaxpr.effects and not _uses_references(closed.jaxpr) and not any(_varying(closed.jaxpr, [True]))


def _uses_references(jaxpr: Jaxpr) -> bool:
    if any(equation.primitive.name in _MUTATING for equation in jaxpr.eqns):
        return True
    parameters = [value for equation in jaxpr.eqns for value in jax.tree.leaves(list(equation.params.values()))]
    inner = [value.jaxpr if isinstance(value, ClosedJaxpr) else value for value in parameters]
    return any(_uses_references(value) for value in inner if isinstance(value, Jaxpr))


def _varying(jaxpr: Jaxpr, inputs: Sequence[bool]) -> list[bool]:
    """Return for each output of `jaxpr` whether it varies with the inputs marked as varying, other than by steps."""
    varies = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom) -> bool:
        return not isinstance(atom, Literal) and varies.get(atom, False)

    for equation in jaxpr.eqns:
        marks = [read(atom) for atom in equation.invars]
        if equation.primitive.name in _SELECTS_BY_SECOND:
            marks = marks[:1]
        inner = equation.params.get("jaxpr")
        if equation.primitive.name in _STEPS:
            outputs = [False] * len(equation.outvars)
        elif equation.primitive.name in ("jit", "pjit", "closed_call", "remat2", "checkpoint") and inner is not None:
            outputs = _varying(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner, marks)
        else:
            outputs = [any(marks)] * len(equation.outvars)
        for variable, mark in zip(equation.outvars, outputs, strict=True):
            varies[variable] = mark and jnp.issubdtype(jnp.result_type(variable.aval), jnp.inexact)
    return [read(atom) for atom in jaxpr.outvars]
