"""The layers of every model are seen in the order in which they are applied, with what they are applied to."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from bnjax.compilation import jit_once
from bnjax.measurements import applied_layers, last_layer_inputs, layer_names
from bnjax.models import MLP, VGG, LeNet
from bnjax.models.vgg import VGG19
from bnjax.normalizers import batch_norm
from tests.comparison import assert_close
from tests.models.cases import MODELS


def drawn(model, images):
    """Return random variables, all of them positive as variances have to be."""
    generator = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return jax.device_put(jax.tree.map(lambda leaf: generator.uniform(0.01, 0.1, leaf.shape), shapes))


@pytest.fixture(scope="module", params=MODELS)
def network(request):
    """Return a model, its variables and images."""
    model = MODELS[request.param].build(batch_norm())
    images = jax.device_put(np.random.default_rng(1).normal(size=MODELS[request.param].shape))
    return model, drawn(model, images), images


def test_input_of_the_last_layer_times_its_kernel_plus_its_bias_is_the_logits(network):
    model, variables, images = network
    params: dict[str, Any] = flatten_dict(variables["params"], sep="/")

    @jit_once
    def both(variables, images):
        logits, layers = applied_layers(model, variables, images, mode="running")
        last = layers[-1]
        return logits, last.input @ params[f"{last.name}/kernel"] + params.get(f"{last.name}/bias", 0.0)

    assert_close(*both(variables, images), order=1)


def test_features_of_all_images_are_those_of_each_batch():
    model, images = MLP((6,), norm=batch_norm()), jax.device_put(np.random.default_rng(1).normal(size=(7, 4, 4, 1)))
    variables = drawn(model, images)
    expected = jax.jit(lambda v: applied_layers(model, v, images, mode="running")[1][-1].input)(variables)
    assert_close(last_layer_inputs(model, variables, images, batch_size=3), expected)


def test_every_kernel_belongs_to_one_layer(network):
    model, variables, images = network
    kernels = [path for path in flatten_dict(variables["params"], sep="/") if path.endswith("kernel")]
    names = layer_names(model, variables, images, mode="running")
    assert sorted(f"{name}/kernel" for name in names) == sorted(kernels)


def abstract_names(model, shape):
    images = jax.device_put(np.zeros(shape))
    return layer_names(model, jax.eval_shape(model.init, jax.random.key(0), images), images, mode="running")


def test_layers_are_in_the_order_of_their_application_beyond_ten_of_a_kind():
    names = abstract_names(VGG(VGG19, width=4, hidden=16), (2, 32, 32, 3))
    assert names == [f"Convolution_{k}" for k in range(16)] + [f"Dense_{k}" for k in range(3)]


def test_layers_made_in_setup_stand_where_they_are_applied():
    before, after = [f"before_{k}" for k in range(4)], ["after_0", "after_1", "last"]
    names = abstract_names(LeNet(3), (2, 28, 28, 1))
    assert names == ["first", "second", "linear_0", "linear_1", "linear_2", *before, *after]


def test_a_layer_that_is_applied_twice_is_noted_twice_and_named_once():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.Dense(3)
            return layer(jnp.sin(layer(x)))

    x = jnp.ones((2, 3))
    variables: Any = jax.jit(Twice().init)(jax.random.key(0), x)
    _, layers = applied_layers(Twice(), variables, x)
    assert [layer.name for layer in layers] == ["Dense_0", "Dense_0"]
    assert_close(layers[1].input, np.sin(x @ np.asarray(variables["params"]["Dense_0"]["kernel"])))
    assert layer_names(Twice(), variables, x) == ["Dense_0"]
