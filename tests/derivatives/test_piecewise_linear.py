"""The check says yes to piecewise-linear programs only, and a yes means a second derivative of zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnjax.derivatives import is_piecewise_linear
from tests.derivatives.cases import compiled_fast

ROW = jnp.array([0.7, -0.4, 1.3, 0.2])
SQUARE = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)))
KERNEL = jnp.asarray(np.random.default_rng(1).normal(size=(3, 1, 1)))


def max_pool(row):
    return jax.lax.reduce_window(row, -jnp.inf, jax.lax.max, (2,), (1,), "SAME")


def convolve(row):
    maps = row[None, :, None]
    return jax.lax.conv_general_dilated(maps, KERNEL, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))[0, :, 0]


@jax.custom_jvp
def curved_surrogate(row):
    """Return the ReLU, whose derivative is taken from softplus, as in spiking networks."""
    return jnp.maximum(row, 0.0)


curved_surrogate.defjvp(
    lambda primals, tangents: (curved_surrogate(*primals), jax.nn.sigmoid(primals[0]) * tangents[0])
)


def squared_in_place(row):
    reference = jax.new_ref(row)
    reference[...] = reference[...] * reference[...]
    return reference[...]


@jax.custom_vjp
def custom_reverse(row):
    return 2 * row


custom_reverse.defvjp(lambda row: (2 * row, row), lambda row, cotangent: (jnp.cos(row) * cotangent,))


def straight_through(row):
    return row + jax.lax.stop_gradient(jnp.tanh(row) - row)


def scanned(row):
    return jax.lax.scan(lambda total, entry: (total + entry, total * entry), 0.0, row)[1]


LINEAR = {
    "matrix": lambda row: SQUARE @ row + 1,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "hard_tanh": jax.nn.hard_tanh,
    "maximum": lambda row: jnp.maximum(row, row[::-1]),
    "minimum": lambda row: jnp.minimum(row, 0.5),
    "abs": jnp.abs,
    "sort": jnp.sort,
    "largest": lambda row: row - jnp.max(row),
    "median": lambda row: row - jnp.median(row),
    "largest_two": lambda row: jnp.tile(jax.lax.top_k(row, 2)[0], 2),
    "entry_at_argmax": lambda row: row + row[jnp.argmax(row)],
    "max_pool": max_pool,
    "mean": lambda row: row - jnp.mean(row),
    "cumulative_sum": jnp.cumsum,
    "convolution": convolve,
    "where": lambda row: jnp.where(row > 0, 2 * row, 0.1 * row),
    "gated_by_a_step": lambda row: row * (row[0] > 0),
    "clip": lambda row: jnp.clip(row, -0.5, 0.5),
    "floor": lambda row: row - jnp.floor(row),
    "rounded": lambda row: row + jnp.round(row) * jnp.sign(row),
    "gather": lambda row: row[jnp.array([0, 0, 3, 1])],
    "scatter": lambda row: jnp.zeros(4).at[jnp.array([1, 1, 2, 0])].add(row),
    "compiled": jax.jit(jax.nn.relu),
    "checkpoint": jax.checkpoint(lambda row: jax.nn.relu(SQUARE @ row)),
    "straight_through": straight_through,
}
CURVED = {
    "squared_in_place": squared_in_place,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "square": lambda row: row * row,
    "gelu": jax.nn.gelu,
    "softsign": lambda row: row / (1 + jnp.abs(row)),
    "product": lambda row: row * row[::-1],
    "norm": lambda row: row / jnp.linalg.norm(row),
    "softmax": jax.nn.softmax,
    "cumulative_product": jnp.cumprod,
    "gated_by_a_feature": lambda row: jnp.where(row[0] > 0, row * row[1], row),
    "compiled_square": jax.jit(lambda row: row**2),
    "checkpoint_square": jax.checkpoint(lambda row: row**3),
    "products_in_a_scan": scanned,
    "curved_surrogate": curved_surrogate,
    "custom_reverse": custom_reverse,
}
EVERYTHING = {**LINEAR, **CURVED}


@pytest.mark.parametrize("name", LINEAR)
def test_it_says_yes_to(name):
    assert is_piecewise_linear(LINEAR[name], ROW)


@pytest.mark.parametrize("name", CURVED)
def test_it_says_no_to(name):
    assert not is_piecewise_linear(CURVED[name], ROW)


def test_it_says_yes_to_a_network_with_a_window_over_maps():
    def network(maps):
        numbers = ("NHWC", "HWIO", "NHWC")
        kernel = jnp.ones((3, 3, 2, 4))
        convolved = jax.nn.relu(
            jax.lax.conv_general_dilated(maps[None], kernel, (1, 1), "SAME", dimension_numbers=numbers)
        )
        window = (1, 2, 2, 1)
        pooled = jax.lax.reduce_window(convolved, -jnp.inf, jax.lax.max, window, window, "VALID")
        return jax.lax.reduce_window(pooled, 0.0, jax.lax.add, window, window, "VALID").ravel() / 4

    assert is_piecewise_linear(network, jnp.ones((4, 4, 2)))


@settings(max_examples=30)
@given(
    names=st.lists(st.sampled_from(sorted(EVERYTHING)), min_size=1, max_size=3),
    branch=st.sampled_from(sorted(LINEAR)),
    seed=st.integers(0, 2**16),
)
def test_a_yes_means_that_the_hessian_of_every_output_is_zero(names, branch, seed):
    def program(row):
        result = row
        for name in names:
            result = EVERYTHING[name](result)
        return result + LINEAR[branch](row)

    row = jnp.asarray(np.random.default_rng(seed).normal(size=4))
    if set(names) <= set(LINEAR):
        assert is_piecewise_linear(program, row)
    if is_piecewise_linear(program, row):
        assert not compiled_fast(jax.hessian(program))(row).any()


@pytest.mark.parametrize("first", ["relu", "abs", "floor", "max_pool"])
@pytest.mark.parametrize("second", ["tanh", "square", "curved_surrogate"])
def test_a_curved_step_makes_a_program_curved_wherever_it_stands(first, second):
    for one, other in ((first, second), (second, first)):
        assert not is_piecewise_linear(lambda row, one=one, other=other: EVERYTHING[other](EVERYTHING[one](row)), ROW)


def test_a_stopped_gradient_counts_as_jax_counts_it():
    def frozen_gate(row):
        return jax.lax.stop_gradient(row) * row

    assert is_piecewise_linear(frozen_gate, ROW)
    assert not jax.hessian(frozen_gate)(ROW).any()
