"""What comes after the second order? The directional Taylor terms of a head, order by order.

The term of order k is `(1/k!) d^k/dt^k ℓ(c + tδ)` at t = 0. Its gradient with respect to δ is the coefficient of
`t^(k-1)` of `∇ℓ(c + tδ)` (docs/theory.md, directional orders): one Taylor expansion gives all orders.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import jet
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jaxtyping import Array, Float

from bnjax.derivatives.heads import LogitsHead
from bnjax.derivatives.piecewise_linear import is_piecewise_linear

# Taylor rules that raise where one operand is a scalar beside an array.
_WANT_EQUAL_SHAPES = {"max", "min", "clamp"}


def order_gradients(
    head: Callable[..., Array],
    center: Float[Array, "..."],
    delta: Float[Array, "..."],
    *row_arguments: Any,
    max_order: int,
) -> Float[Array, "max_order ..."]:
    """Return, for the orders k = 1 … max_order, the gradient of the order's term with respect to δ, for one row.

    The value of the term of order k is `gradient · δ / k`. Behind piecewise-linear logits only the outer loss is
    expanded, along `J δ`.

    Args:
        head: the loss of one row.
        center: where it is expanded.
        delta: the row's distance δ from there.
        row_arguments: what else `head` takes for this row, such as its label.
        max_order: the highest order.
    """
    if isinstance(head, LogitsHead) and is_piecewise_linear(head.of_row(*row_arguments)[0], center):
        logits_of, outer = head.of_row(*row_arguments)
        logits, push_forward = jax.linearize(logits_of, center)
        _, pull_back = jax.vjp(logits_of, center)
        outer_gradient = jax.grad(outer)
        coefficients = taylor_coefficients(outer_gradient, logits, push_forward(delta), count=max_order)
        return jax.vmap(lambda coefficient: pull_back(coefficient)[0])(coefficients)
    return taylor_coefficients(lambda row: jax.grad(head)(row, *row_arguments), center, delta, count=max_order)


def taylor_coefficients(
    function: Callable[[Array], Array], point: Array, direction: Array, *, count: int
) -> Float[Array, "count ..."]:
    """Return the coefficients of `t^0 … t^(count-1)` of `function(point + t · direction)`.

    In Taylor mode where JAX has rules for all that the function does, by nested forward differentiation (work 2^count)
    otherwise.
    """
    if count < 3 or not _taylor_mode_applies(function, point):
        return _nested_taylor_coefficients(function, point, direction, count=count)
    series = [direction] + [jnp.zeros_like(direction)] * (count - 2)
    try:
        value, derivatives = jet.jet(function, (point,), (series,))
    except (TypeError, ValueError, NotImplementedError):  # Some rules raise on operands such as integers.
        return _nested_taylor_coefficients(function, point, direction, count=count)
    return jnp.stack([value, *(d / math.factorial(k) for k, d in enumerate(derivatives, start=1))])


def _nested_taylor_coefficients(
    function: Callable[[Array], Array], point: Array, direction: Array, *, count: int
) -> Float[Array, "count ..."]:
    """Return the coefficients of `t^0 … t^(count-1)` of `function(point + t · direction)` by nested `jax.jvp`."""

    def derivative(order: int) -> Callable[[Array], Array]:
        if order == 0:
            return function
        lower = derivative(order - 1)
        return lambda point: jax.jvp(lower, (point,), (direction,))[1]

    return jnp.stack([derivative(order)(point) / math.factorial(order) for order in range(count)])


def _taylor_mode_applies(function: Callable[[Array], Array], point: Array) -> bool:
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(point.shape, point.dtype))
    return _has_rules(closed.jaxpr)


def _has_rules(jaxpr: Jaxpr) -> bool:
    # Taylor mode ignores custom derivative rules, so a program that holds one is left to nested differentiation.
    for equation in jaxpr.eqns:
        inner = equation.params.get("jaxpr")
        if equation.primitive.name == "jit" and isinstance(inner, ClosedJaxpr):
            if not _has_rules(inner.jaxpr):
                return False
        elif equation.primitive not in jet.jet_rules or not _rule_holds(equation):
            return False
    return True


def _rule_holds(equation: JaxprEqn) -> bool:
    name, operands = equation.primitive.name, [atom.aval for atom in equation.invars]
    # The rule of `pow` gives NaN at and below 0, that of `rem` a wrong value for negative numerators.
    if name.startswith("custom") or name in ("pow", "rem"):
        return False
    if name in _WANT_EQUAL_SHAPES and len({getattr(operand, "shape", ()) for operand in operands}) > 1:
        return False
    return not any(jnp.iscomplexobj(operand) for operand in operands)
