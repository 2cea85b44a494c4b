"""A convolution has the same values and derivatives in every form."""

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.derivatives import is_piecewise_linear
from bnjax.models import Convolution, convolution_forms
from bnjax.models.convolution import convolve, fastest_form
from bnjax.models.convolution_forms import band, native, patches, winograd
from tests.comparison import assert_close

SHAPES = {
    "plain": ((2, 5, 4, 3), 3, 1, 1),
    "many_channels": ((3, 4, 4, 6), 3, 1, 1),
    "unpadded": ((2, 6, 3, 5), 3, 1, 0),
    "strided": ((2, 6, 7, 2), 3, 2, 1),
    "large_kernel": ((2, 6, 6, 1), 5, 1, 2),
    "pointwise": ((2, 3, 3, 4), 1, 2, 0),
    "one_position": ((2, 1, 1, 3), 3, 1, 1),
}
FORMS = {"native": native, "patches": patches, "band": band, "winograd": winograd}
FAST = [
    (name, form)
    for name, (_, size, strides, _) in SHAPES.items()
    for form in ("patches", "band", "winograd")
    if form != "winograd" or (size, strides) == (3, 1)
]
shapes = pytest.mark.parametrize("name", SHAPES)


def drawn(name) -> tuple[jax.Array, jax.Array, Any]:
    shape, size, strides, padding = SHAPES[name]
    generator = np.random.default_rng(0)
    x, kernel = jax.device_put((generator.normal(size=shape), generator.normal(size=(size, size, shape[-1], 2))))
    return x, kernel, {"strides": strides, "padding": padding}


def direct_sum(x, kernel, *, strides, padding):
    """Sum by the definition, entry by entry."""
    size = len(kernel)
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = ((extent - size) // strides + 1 for extent in x.shape[1:3])
    y = np.zeros((len(x), height, width, kernel.shape[-1]))
    for i, j in product(range(height), range(width)):
        window = x[:, i * strides : i * strides + size, j * strides : j * strides + size]
        y[:, i, j] = np.einsum("nabc,abcf->nf", window, kernel)
    return y


@shapes
def test_the_native_form_is_the_sum_of_its_definition(name):
    x, kernel, options = drawn(name)
    assert_close(convolve(x, kernel, **options, form=native), direct_sum(x, kernel, **options))


@pytest.mark.parametrize(("name", "form"), FAST)
@pytest.mark.parametrize("at_once", ["all images at once", "few images at once"])
def test_every_form_has_the_values_and_derivatives_of_the_native_one(name, form, at_once, monkeypatch):
    x, kernel, options = drawn(name)
    if at_once == "few images at once":
        # Two of three images at once: the last chunk is filled up.
        monkeypatch.setattr(convolution_forms, "NUMBERS_AT_ONCE", -(-2 * x.size // 3))

    def derivatives(form):
        def loss(x, kernel):
            y = convolve(x, kernel, **options, form=form)
            return jnp.sum(jnp.sin(y)), y

        gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
        (both, y), (along, _) = jax.jvp(gradient, (x, kernel), (jnp.cos(x), jnp.sin(kernel)))
        return y, both, along

    found, expected = jax.jit(lambda: [derivatives(FORMS[form]), derivatives(native)])()
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_close(one, other, order=2)


def test_single_precision_loses_no_more_than_the_native_form():
    generator = np.random.default_rng(0)
    x, kernel = generator.normal(size=(4, 8, 8, 64)), generator.normal(size=(3, 3, 64, 32))
    exact = np.asarray(native(*jax.device_put((x, kernel)), 1, 1))
    single = jax.device_put((x.astype(np.float32), kernel.astype(np.float32)))
    errors = {form: np.max(np.abs(FORMS[form](*single, 1, 1) - exact)) for form in FORMS}
    assert max(errors.values()) < 4 * errors["native"], errors


@pytest.mark.parametrize(("name", "form"), FAST)
def test_a_fixed_kernel_leaves_the_convolution_piecewise_linear(name, form):
    x, kernel, options = drawn(name)
    assert is_piecewise_linear(lambda row: convolve(row[None], kernel, **options, form=FORMS[form]), x[0])


def test_rows_may_be_mapped_one_by_one():
    x, kernel, options = drawn("many_channels")
    by_row = jax.vmap(lambda row: convolve(row[None], kernel, **options, form=winograd)[0])(x)
    assert_close(by_row, convolve(x, kernel, **options, form=native))


def test_the_form_is_chosen_by_backend_and_shape(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    large, small = (8, 32, 32, 64), (8, 2, 2, 64)
    assert fastest_form(large, (3, 3, 64, 64), 1) is winograd
    assert fastest_form((8, 32, 32, 16), (3, 3, 16, 16), 1) is winograd
    for images, kernel, strides in (
        (small, (3, 3, 64, 64), 1),
        (large, (3, 3, 64, 128), 2),
        (large, (1, 1, 64, 256), 1),
        ((8, 32, 32, 3), (3, 3, 3, 64), 1),
    ):
        assert fastest_form(images, kernel, strides) is patches
    assert fastest_form((8, 28, 28, 1), (5, 5, 1, 6), 1) is band
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert fastest_form(large, (3, 3, 64, 64), 1) is native


@pytest.mark.parametrize(("size", "strides"), [(5, 1), (3, 2)])
def test_winograd_refuses_kernels_that_it_is_not_made_for(size, strides):
    with pytest.raises(ValueError, match="kernels of size 3 and strides 1, got"):
        winograd(jnp.ones((1, 6, 6, 2)), jnp.ones((size, size, 2, 2)), strides, 1)


def test_a_kernel_larger_than_the_padded_images_is_refused():
    with pytest.raises(ValueError, match="needs a square kernel of 2 channels and at most 8 rows, got"):
        convolve(jnp.ones((1, 6, 6, 2)), jnp.ones((9, 9, 2, 4)), padding=1)


@pytest.mark.parametrize(
    ("kernel", "strides", "padding"),
    [((3, 3, 2, 4), 0, 1), ((3, 3, 2, 4), 1, -1), ((0, 0, 2, 4), 1, 0), ((3, 3, 2, 0), 1, 0)],
)
def test_a_convolution_that_there_is_not_is_refused(kernel, strides, padding):
    with pytest.raises(ValueError, match="strides >= 1 and padding >= 0, got"):
        convolve(jnp.ones((1, 6, 6, 2)), jnp.ones(kernel), strides=strides, padding=padding)


@pytest.mark.parametrize("form", FORMS)
def test_no_images_convolve_to_no_images(form):
    assert FORMS[form](jnp.ones((0, 5, 5, 2)), jnp.ones((3, 3, 2, 4)), 1, 1).shape == (0, 5, 5, 4)


def test_the_layer_adds_its_bias_in_the_dtype_of_its_input():
    layer, x = Convolution(2, size=3), jnp.ones((1, 4, 4, 3), jnp.float32)
    variables = layer.init(jax.random.key(0), x)
    shifted = {"params": {**variables["params"], "bias": jnp.array([1.0, 2.0], jnp.float32)}}
    y: Any = layer.apply(shifted, x)
    plain: Any = layer.apply(variables, x)
    assert_close(y - plain, jnp.broadcast_to(jnp.array([1.0, 2.0], jnp.float32), y.shape))
    assert y.dtype == jnp.float32
