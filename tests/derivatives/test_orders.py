"""The directional Taylor terms are those of repeated differentiation, in whichever mode they are computed."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import jet

from bnjax import cross_entropy_head, logits_head
from bnjax.derivatives import order_gradients, taylor_coefficients
from tests.comparison import assert_close
from tests.derivatives.cases import OFFSET, SECOND, compiled_fast, hidden, relu_head

CENTER, DELTA = jnp.array([0.2, -0.3, 0.1, 0.4]), jnp.array([0.9, -1.1, 0.3, 0.7])


def log_softmax_head(row):
    return -jax.nn.log_softmax(hidden(row)[:3])[1]


def gelu_head(row):
    return jnp.sum(jax.nn.gelu(hidden(row)) @ SECOND)


def tanh_head(row):
    return jnp.sum(jnp.tanh(hidden(row)) ** 2)


def softplus_head(row):
    return jnp.sum(jax.nn.softplus(hidden(row)) ** 2)


def clipped_head(row):
    return jnp.sum(jnp.clip(hidden(row), -2.0, 0.5) ** 3 + jnp.minimum(hidden(row), 0.3) * hidden(row))


def remainder_head(row):
    return jnp.sum(jnp.fmod(3 * row, 0.7) ** 3)


def integer_head(row):
    return jnp.sum(row**3 * (jnp.floor(3 * row).astype(int) % 2))


def real_power_head(row):
    """Return powers with a float exponent, at 0 and below 0."""
    return jnp.sum((row - CENTER) ** 4.0 + (row - 1) ** 4.0)


def fourier_head(row):
    return jnp.sum(jnp.abs(jnp.fft.fft(row)) ** 2 * jnp.sin(row))


TAYLOR_MODE = {"log_softmax": log_softmax_head, "gelu": gelu_head, "tanh": tanh_head}
NESTED = {
    "remainder": remainder_head,
    "softplus": softplus_head,
    "clipped": clipped_head,
    "real_power": real_power_head,
    "fourier": fourier_head,
}


@partial(compiled_fast, static_argnums=0, static_argnames="max_order")
def orders_of(head, center, delta, *, max_order):
    """Call `order_gradients`, compiled."""
    return order_gradients(head, center, delta, max_order=max_order)


def nested_orders(head, max_order):
    """Return `∂/∂δ (1/k!) d^k/dt^k ℓ(c + tδ)`, by the definition."""

    def term(delta, order):
        def along(t):
            return head(CENTER + t * delta)

        for _ in range(order):
            along = jax.jacfwd(along)
        return along(0.0) / math.factorial(order)

    return jnp.stack([jax.grad(term)(DELTA, order) for order in range(1, max_order + 1)])


def repeatedly_differentiated(head, max_order):
    """The same as `(1/(k-1)!) d^(k-1)/dt^(k-1) ∇ℓ(c + tδ)`, which compiles in less."""

    def along(t):
        return jax.grad(head)(CENTER + t * DELTA)

    orders = []
    for order in range(max_order):
        orders.append(along(0.0) / math.factorial(order))
        along = jax.jacfwd(along)
    return jnp.stack(orders)


@pytest.mark.parametrize("name", ["gelu", "log_softmax", "clipped", "real_power"])
def test_orders_are_the_gradients_of_the_directional_terms(name):
    head = {**TAYLOR_MODE, **NESTED}[name]

    @compiled_fast
    def both():
        return order_gradients(head, CENTER, DELTA, max_order=3), nested_orders(head, 3)

    assert_close(*both(), order=3)


@pytest.mark.parametrize("name", TAYLOR_MODE)
def test_taylor_mode_agrees_with_nested_differentiation_to_order_five(name, monkeypatch):
    calls = []
    monkeypatch.setattr(jet, "jet", lambda *arguments, original=jet.jet: calls.append(0) or original(*arguments))

    @compiled_fast
    def both():
        head = TAYLOR_MODE[name]
        return taylor_coefficients(jax.grad(head), CENTER, DELTA, count=5), repeatedly_differentiated(head, 5)

    assert_close(*both(), order=4)
    assert calls


@pytest.mark.parametrize("name", NESTED)
def test_what_taylor_mode_gets_wrong_never_goes_through_it(name, monkeypatch):
    monkeypatch.setattr(jet, "jet", lambda *_: pytest.fail("went through Taylor mode"))
    jax.eval_shape(lambda: order_gradients(NESTED[name], CENTER, DELTA, max_order=4))


@pytest.mark.parametrize("head", [integer_head, remainder_head])
def test_a_head_that_taylor_mode_cannot_take_has_the_orders_of_nested_differentiation(head):
    found, expected = compiled_fast(
        lambda: (order_gradients(head, CENTER, DELTA, max_order=3), nested_orders(head, 3))
    )()
    assert_close(found, expected, order=3)


@pytest.mark.parametrize("make", [jax.custom_jvp, jax.custom_vjp], ids=["custom_jvp", "custom_vjp"])
def test_a_custom_rule_is_obeyed_in_every_order(make):
    @make
    def surrogate(row):
        return row**3

    if make is jax.custom_jvp:
        surrogate.defjvp(lambda primals, tangents: (primals[0] ** 3, 2 * primals[0] * tangents[0]))
    else:
        surrogate.defvjp(lambda row: (row**3, row), lambda row, cotangent: (2 * row * cotangent,))
    found = orders_of(lambda row: jnp.sum(surrogate(row)), CENTER, DELTA, max_order=4)
    assert_close(found, [2 * np.asarray(CENTER), 2 * np.asarray(DELTA), np.zeros(4), np.zeros(4)])


def test_a_power_has_binomial_coefficients():
    found = orders_of(lambda row: jnp.sum(row**4), CENTER, DELTA, max_order=6)
    center, delta = np.asarray(CENTER), np.asarray(DELTA)
    exact = [4 * math.comb(3, k) * center ** (3 - k) * delta**k for k in range(4)]
    assert_close(found, [*exact, np.zeros(4), np.zeros(4)], order=2)


def test_the_exponential_has_the_factorials_of_the_derivatives_of_its_gradient():
    found = orders_of(lambda row: jnp.exp(row[0]), np.zeros(1), np.ones(1), max_order=7)
    assert_close(found, [[1 / math.factorial(k - 1)] for k in range(1, 8)])


def test_orders_add_up_to_the_gradient_of_a_polynomial():
    def head(row):
        return jnp.prod(row) + jnp.sum(row**3)

    orders = orders_of(head, CENTER, DELTA, max_order=4)
    assert_close(np.sum(orders, axis=0), compiled_fast(jax.grad(head))(CENTER + DELTA), order=2)


@pytest.mark.parametrize("outer", ["cross_entropy", "cubes"])
def test_behind_piecewise_linear_logits_the_orders_are_those_of_the_whole_head(outer):
    head = relu_head if outer == "cross_entropy" else logits_head(relu_head.logits, lambda z, _: jnp.sum(z**3))

    @compiled_fast
    def both():
        whole = repeatedly_differentiated(lambda row: head(row, jnp.array(1)), 5)
        return order_gradients(head, CENTER, DELTA, jnp.array(1), max_order=5), whole

    assert_close(*both(), order=4)


def test_curved_logits_do_not_take_the_low_rank_path():
    head = cross_entropy_head(lambda row: jnp.tanh(hidden(row)) @ SECOND)

    @compiled_fast
    def both():
        whole = repeatedly_differentiated(lambda row: head(row, jnp.array(1)), 4)
        return order_gradients(head, CENTER, DELTA, jnp.array(1), max_order=4), whole

    assert_close(*both(), order=3)


def test_orders_one_and_two_are_gradient_and_hessian_product():
    offset = np.asarray(OFFSET)[:4]
    found = orders_of(lambda row: jnp.sum(jnp.sin(row) * offset), CENTER, DELTA, max_order=2)
    assert_close(found, [np.cos(CENTER) * offset, -np.sin(CENTER) * offset * np.asarray(DELTA)], order=2)
