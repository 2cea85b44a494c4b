"""A network cut at any of its normalizers is the network, and its normalizers are listed as it applies them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnjax.models import MLP, VGGA, LeNet, Normalization, cut_at, cut_at_last_normalizer, normalizer_names, passages
from bnjax.normalizers import batch_norm
from bnjax.normalizers.normalizer import Mode
from tests.comparison import assert_close

NETWORK = MLP((6, 5, 4), norm=batch_norm())


class Backwards(nn.Module):
    """Normalizers made in another order than they are applied in, one of them twice."""

    def setup(self):
        self.last, self.first = Normalization(batch_norm()), Normalization(batch_norm())

    def __call__(self, x, *, mode: Mode = "batch"):
        return self.last(self.last(self.first(x, mode=mode) ** 3, mode=mode), mode=mode)


@pytest.fixture(scope="module")
def network():
    images = jax.device_put(np.random.default_rng(0).normal(size=(7, 3, 3, 1)))
    return jax.jit(NETWORK.init)(jax.random.key(0), images), images


def names_of(model, shape):
    images = jnp.zeros(shape)
    return normalizer_names(model, jax.eval_shape(model.init, jax.random.key(0), images), images)


@pytest.mark.parametrize("number", range(3))
def test_the_parts_put_together_are_the_network_and_its_gradient(network, number):
    variables, images = network

    def whole(images):
        return NETWORK.apply(variables, images, mode="batch", mutable=["batch_stats"])[0]

    def in_parts(images):
        cut = cut_at(NETWORK, variables, images, f"Normalization_{number}")
        return cut.head(cut.normalizer.apply(cut.params, cut.stats, cut.features, mode="batch", key=None)[0])

    @jax.jit
    def values_and_gradients(images):
        value, pull_back = jax.vjp(whole, images)
        parts, pull_back_parts = jax.vjp(in_parts, images)
        return (value, *pull_back(jnp.sin(value))), (parts, *pull_back_parts(jnp.sin(value)))

    (value, gradient), (parts, gradient_of_parts) = values_and_gradients(images)
    assert_close(parts, value)
    assert_close(gradient_of_parts, gradient, order=1)


def test_what_enters_a_normalizer_is_what_the_layers_before_it_give(network):
    variables, images = network
    first = jax.tree.map(np.asarray, variables["params"]["Dense_0"])
    expected = np.reshape(images, (7, -1)) @ first["kernel"] + first["bias"]
    assert_close(cut_at(NETWORK, variables, images, "Normalization_0").features, expected)


def test_the_last_normalizer_is_the_last_of_the_names(network):
    variables, images = network
    names = normalizer_names(NETWORK, variables, images)
    assert names == ["Normalization_0", "Normalization_1", "Normalization_2"]
    assert cut_at_last_normalizer(NETWORK, variables, images).name == names[-1]


def test_the_gradient_behind_each_normalizer_is_that_of_the_cut_network(network):
    variables, images = network

    @jax.jit
    def passing(images):
        return passages(NETWORK, variables, images, lambda output: jnp.sum(jnp.sin(output)))

    @jax.jit
    def of_the_cut(images):
        cuts = [cut_at(NETWORK, variables, images, f"Normalization_{k}") for k in range(3)]
        outputs = [cut.normalizer.apply(cut.params, cut.stats, cut.features)[0] for cut in cuts]
        loss_of = [lambda y, cut=cut: jnp.sum(jnp.sin(cut.head(y))) for cut in cuts]
        return {
            cut.name: (cut.features, y, jax.grad(loss)(y)) for cut, y, loss in zip(cuts, outputs, loss_of, strict=True)
        }

    found, expected = passing(images), of_the_cut(images)
    assert found.keys() == expected.keys()
    for name, (features, output, gradient) in expected.items():
        assert_close(found[name].features, features)
        assert_close(found[name].output, output)
        assert_close(found[name].gradient, gradient, order=1)


def test_normalizers_are_in_the_order_of_their_application():
    assert names_of(VGGA(width=1, norm=batch_norm()), (2, 32, 32, 3)) == [f"Normalization_{k}" for k in range(10)]
    assert names_of(LeNet(2, norm=batch_norm()), (2, 28, 28, 1)) == ["normalization"]
    assert names_of(Backwards(), (4, 3)) == ["first", "last", "last"]


def test_a_normalizer_that_is_not_there_or_is_applied_twice_is_refused(network):
    variables, images = network
    with pytest.raises(ValueError, match=r"'Dense_0' to be cut at, got .*'Normalization_0', 'Normalization_1'"):
        cut_at(NETWORK, variables, images, "Dense_0")
    x = jax.device_put(np.random.default_rng(0).normal(size=(4, 3)))
    twice = jax.jit(Backwards().init)(jax.random.key(0), x)
    with pytest.raises(ValueError, match="last applied several times"):
        cut_at(Backwards(), twice, x, "last")
    with pytest.raises(ValueError, match="last applied several times"):
        passages(Backwards(), twice, x, jnp.sum)
