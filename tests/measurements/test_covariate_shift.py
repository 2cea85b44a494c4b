"""The covariate shift of each layer is that of gradients taken one by one, with the layers before it moved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.curvature import batch_loss
from bnjax.measurements import internal_covariate_shift, layer_names, parameter_order
from bnjax.models import MLP, ResNet
from bnjax.models.resnet import RESNET18
from bnjax.normalizers import batch_norm
from tests.comparison import assert_close


@pytest.fixture(scope="module")
def network():
    generator = np.random.default_rng(0)
    images, labels = jax.device_put((generator.normal(size=(7, 4)), generator.integers(0, 3, 7)))
    model = MLP((5, 4), norm=batch_norm(), classes=3)
    initialized = jax.jit(model.init)(jax.random.key(0), images)
    variables = jax.device_put(jax.tree.map(lambda leaf: np.asarray(leaf, float), initialized))
    loss = batch_loss(model, variables["batch_stats"], images, labels)
    gradient_of, params = jax.jit(jax.grad(loss)), variables["params"]
    stepped = jax.tree.map(lambda p, g: p - 0.5 * g, *jax.device_get((params, gradient_of(params))))
    updated = jax.device_put(stepped)
    order = parameter_order(model, variables, images)
    return loss, gradient_of, params, updated, order, layer_names(model, variables, images)


def test_modules_come_in_the_order_of_their_application(network):
    _, _, params, _, order, layers = network
    assert set(order) == set(params)
    assert [name for name in order if name in layers] == layers
    assert [("scale" in params[name]) for name in order] == [False, True, False, True, False]


def test_a_deep_network_is_ordered_without_being_computed():
    model = ResNet(RESNET18, norm=batch_norm(), classes=10)
    order, layers = [], []

    def note(key, images):
        variables = model.init(key, images)
        order.extend(parameter_order(model, variables, images))
        layers.extend(layer_names(model, variables, images))

    jax.eval_shape(note, jax.random.key(0), jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32))
    assert len(order) == len(set(order)) == 2 * len(layers) - 1  # Every convolution has a normalizer behind it.


def test_each_layer_is_measured_with_the_layers_before_it_moved(network):
    loss, gradient_of, params, updated, order, layers = network
    shift = jax.jit(lambda p, u: internal_covariate_shift(loss, p, u, order, layers))(params, updated)
    found = jax.device_get(shift)
    for index, name in enumerate(layers):
        mixed = {key: updated[key] if order.index(key) < order.index(name) else params[key] for key in params}
        one, other = (np.ravel(gradient_of(point)[name]["kernel"]) for point in (params, mixed))
        assert_close(found.norm[index], np.linalg.norm(one), order=2)
        assert_close(found.distance[index], np.linalg.norm(one - other), order=2, scale=float(np.linalg.norm(one)))
        cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
        assert_close(found.cosine[index], cosine, order=2)
    assert found.distance[0] == 0
    assert found.distance[-1] > 0


def test_a_layer_that_is_not_in_the_order_is_refused(network):
    loss, _, params, updated, order, layers = network
    with pytest.raises(ValueError, match="every layer and every module with parameters needs to be in order"):
        internal_covariate_shift(loss, params, updated, order[1:], layers)
