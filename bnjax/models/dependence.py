"""Which arguments does each result of a function depend on? Read off its program; nothing is computed."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Jaxpr, Literal, Var


def dependence(function: Callable[[Any], Any], argument: Any) -> list[list[bool]]:
    """Return for every leaf of `function(argument)` whether it depends on each leaf of the argument.

    A call inside of the program counts as a whole: all that leaves it depends on all that enters it.
    """
    jaxpr = jax.make_jaxpr(function)(argument).jaxpr
    used = [_used(jaxpr, atom) for atom in jaxpr.outvars]
    return [[variable in variables for variable in jaxpr.invars] for variables in used]


def _used(jaxpr: Jaxpr, result: Any) -> set[Var]:
    """Return the variables of a program that one of its results is computed from."""
    used = set() if isinstance(result, Literal) else {result}
    for equation in reversed(jaxpr.eqns):
        if not used.isdisjoint(equation.outvars):
            used.update(atom for atom in equation.invars if not isinstance(atom, Literal))
    return used
