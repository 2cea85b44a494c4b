"""A convolution has the same values and derivatives in every form."""

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.derivatives import is_piecewise_linear
from bnjax.models import Convolution
from bnjax.models.convolution import Forms, convolve, fastest_forms
from tests.comparison import assert_close

SHAPES = {
    "plain": ((2, 5, 4, 3), 3, 1, 1),
    "strided": ((2, 6, 7, 2), 3, 2, 1),
    "large_kernel": ((2, 6, 6, 1), 5, 1, 2),
    "pointwise": ((2, 3, 3, 4), 1, 2, 0),
    "one_position": ((2, 1, 1, 3), 3, 1, 1),
}
ALL_FORMS = [Forms(*forms) for forms in product(("native", "patches"), repeat=3)]
shapes = pytest.mark.parametrize("name", SHAPES)


def drawn(name) -> tuple[jax.Array, jax.Array, Any]:
    shape, size, strides, padding = SHAPES[name]
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.normal(size=shape))
    kernel = jnp.asarray(generator.normal(size=(size, size, shape[-1], 2)))
    return x, kernel, {"strides": strides, "padding": padding}


def direct_sum(x, kernel, *, strides, padding):
    """The definition, entry by entry."""
    size = len(kernel)
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = ((extent - size) // strides + 1 for extent in x.shape[1:3])
    y = np.zeros((len(x), height, width, kernel.shape[-1]))
    for i, j in product(range(height), range(width)):
        window = x[:, i * strides : i * strides + size, j * strides : j * strides + size]
        y[:, i, j] = np.einsum("nabc,abcf->nf", window, kernel)
    return y


@shapes
@pytest.mark.parametrize("forms", ALL_FORMS[::7], ids=["native", "patches"])
def test_every_form_is_the_sum_of_its_definition(name, forms):
    x, kernel, options = drawn(name)
    assert_close(convolve(x, kernel, **options, forms=forms), direct_sum(x, kernel, **options))


@shapes
def test_first_and_second_derivatives_are_the_same_in_every_form(name):
    x, kernel, options = drawn(name)

    def loss(x, kernel, forms):
        return jnp.sum(jnp.sin(convolve(x, kernel, **options, forms=forms)))

    def derivatives(forms):
        gradient = jax.grad(loss, argnums=(0, 1))
        both = gradient(x, kernel, forms)
        along = jax.jvp(lambda x, kernel: gradient(x, kernel, forms), (x, kernel), (jnp.cos(x), jnp.sin(kernel)))[1]
        return both, along

    compiled = jax.jit(lambda: [derivatives(forms) for forms in ALL_FORMS])()
    for found in compiled[1:]:
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(compiled[0]), strict=True):
            assert_close(one, other, order=2)


def test_a_fixed_kernel_leaves_the_convolution_piecewise_linear():
    x, kernel, options = drawn("plain")
    for forms in ALL_FORMS:
        assert is_piecewise_linear(lambda row, forms=forms: convolve(row[None], kernel, **options, forms=forms), x[0])


def test_rows_may_be_mapped_one_by_one():
    x, kernel, options = drawn("strided")
    by_row = jax.vmap(lambda row: convolve(row[None], kernel, **options)[0])(x)
    assert_close(by_row, convolve(x, kernel, **options))


def test_images_of_few_channels_and_small_maps_take_patches_on_a_cpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert fastest_forms(3, 1024).value == fastest_forms(512, 4).value == "patches"
    assert fastest_forms(256, 64).value == "native"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert set(fastest_forms(3, 4)) == {"native"}


def test_the_layer_adds_its_bias_in_the_dtype_of_its_input():
    layer, x = Convolution(2, size=3), jnp.ones((1, 4, 4, 3), jnp.float32)
    variables = layer.init(jax.random.key(0), x)
    shifted = {"params": {**variables["params"], "bias": jnp.array([1.0, 2.0], jnp.float32)}}
    y: Any = layer.apply(shifted, x)
    plain: Any = layer.apply(variables, x)
    assert_close(y - plain, jnp.broadcast_to(jnp.array([1.0, 2.0], jnp.float32), y.shape))
    assert y.dtype == jnp.float32
