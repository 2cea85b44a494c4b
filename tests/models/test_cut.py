"""A network cut at its last normalizer is the network: trunk, normalizer and head put together again."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnjax.models import MLP, VGG, LeNet, Normalization, cut_at_last_normalizer
from bnjax.normalizers import batch_norm, noisy_batch_norm
from bnjax.normalizers.normalizer import Mode
from tests.comparison import assert_close

MODELS = {
    "mlp": (MLP((6, 5), norm=batch_norm()), (4, 3, 3, 1), "Normalization_1"),
    "lenet": (LeNet(3, norm=batch_norm()), (4, 12, 12, 1), "normalization"),
    "vgg with dropout": (VGG((1, 1), width=2, hidden=7, norm=noisy_batch_norm()), (4, 4, 4, 3), "Normalization_0"),
}


class Plain(nn.Module):
    """No normalizer at all."""

    @nn.compact
    def __call__(self, x, *, mode: Mode = "batch"):
        del mode
        return nn.Dense(2)(x)


class Twice(nn.Module):
    """One normalizer applied two times."""

    @nn.compact
    def __call__(self, x, *, mode: Mode = "batch"):
        norm = Normalization(batch_norm())
        return norm(norm(x, mode=mode) ** 3, mode=mode)


def drawn(model, shape):
    """Draw a batch, all parameters and statistics (their initialization would take long to compile), and make keys."""
    generator = np.random.default_rng(0)
    keys = {name: jax.random.key(number) for number, name in enumerate(("params", "dropout", "noise"))}
    x = jax.device_put(generator.normal(size=shape))
    shapes = jax.eval_shape(model.init, keys, x)
    variables = jax.device_put(jax.tree.map(lambda leaf: 0.5 * generator.normal(size=leaf.shape), shapes))
    return x, variables, {name: keys[name] for name in ("dropout", "noise")}


@pytest.mark.parametrize("name", MODELS)
def test_the_parts_put_together_are_the_network_and_its_gradient(name):
    model, shape, place = MODELS[name]
    x, variables, rngs = drawn(model, shape)

    def whole(x):
        return model.apply(variables, x, mode="batch", mutable=["batch_stats"], rngs=rngs)[0]

    def in_parts(x):
        cut = cut_at_last_normalizer(model, variables, x, rngs=rngs)
        assert cut.name == place
        if "noisy" in cut.normalizer.name:  # Its noise is drawn inside the module: leave the module its part.
            return cut.head(cut_output(model, variables, x, rngs))
        return cut.head(cut.normalizer.apply(cut.params, cut.stats, cut.features, mode="batch", key=None)[0])

    output, gradient = output_and_gradient(in_parts, x)
    expected_output, expected_gradient = output_and_gradient(whole, x)
    assert_close(output, expected_output)
    assert_close(gradient, expected_gradient)


def output_and_gradient(network, x):
    """Return output and gradient of the sum of its sines, compiled: eagerly, each convolution would be by itself."""

    def loss(x):
        output = network(x)
        return jnp.sum(jnp.sin(output)), output

    (_, output), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(x)
    return output, gradient


def cut_output(model, variables, x, rngs):
    """Return what leaves the last normalizer, as flax captures it."""
    apply: Any = model.apply
    is_norm = lambda module, _: isinstance(module, Normalization)  # noqa: E731
    _, state = apply(
        variables, x, mode="batch", mutable=["batch_stats", "intermediates"], rngs=rngs, capture_intermediates=is_norm
    )
    return jax.tree.leaves(state["intermediates"])[-1]


def test_a_network_without_a_normalizer_and_one_used_twice_are_refused():
    x = jnp.ones((2, 3))
    plain = Plain()
    with pytest.raises(ValueError, match="needs a normalizer to be cut at, got Plain"):
        cut_at_last_normalizer(plain, drawn(plain, x.shape)[1], x)
    x, variables, _ = drawn(Twice(), (4, 3))
    with pytest.raises(ValueError, match="Normalization_0 applied several times"):
        cut_at_last_normalizer(Twice(), variables, x)
