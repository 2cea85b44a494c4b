"""What batch normalization removes of a gradient is what its derivative maps to zero, at every normalizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnjax.measurements import blocked_shares, gradient_parts
from bnjax.models import MLP, passages
from bnjax.normalizers import batch_norm, identity
from tests.comparison import assert_close

SHAPES = [(9, 5), (3, 4, 2, 5)]


def drawn(shape):
    features, gradient = np.random.default_rng(0).normal(size=(2, *shape))
    return jnp.asarray(features), jnp.asarray(gradient)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_parts_add_up_to_the_gradient_and_are_orthogonal(shape):
    features, gradient = drawn(shape)
    axes = tuple(range(len(shape) - 1))
    standardized = (features - jnp.mean(features, axes)) / jnp.std(features, axes)
    mean, along, rest = gradient_parts(gradient, standardized, axes)
    assert_close(mean + along + rest, gradient)
    for one, other in ((mean, along), (mean, rest), (along, rest)):
        assert_close(jnp.sum(one * other, axes), jnp.zeros(5))
    assert_close(mean, jnp.broadcast_to(jnp.mean(gradient, axes), shape))
    assert_close(jnp.sum(rest * standardized, axes), jnp.zeros(5))


@pytest.fixture(scope="module")
def network():
    generator = np.random.default_rng(1)
    images, labels = jnp.asarray(generator.normal(size=(8, 6))), jnp.asarray(generator.integers(0, 3, 8))
    model = MLP((5, 1), norm=batch_norm(epsilon=0.0), classes=3)
    variables = jax.tree.map(lambda leaf: leaf.astype(float), model.init(jax.random.key(0), images))
    moved = jax.tree.map(lambda leaf: leaf + 0.3 * generator.normal(size=leaf.shape), variables["params"])

    def loss(logits):
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    return model, {**variables, "params": moved}, images, loss


def test_what_is_not_removed_gets_back_whole_through_a_single_feature(network):
    model, variables, images, loss = network
    name, share = list(blocked_shares(model, variables, images, loss).items())[-1]
    features, _, gradient = passages(model, variables, images, loss)[name]
    assert features.shape == (8, 1)
    scale = variables["params"][name]["scale"]
    plain = batch_norm(epsilon=0.0, affine=False)
    _, pull_back = jax.vjp(lambda x: plain.apply(*plain.init(features), x)[0], features)
    (arriving,) = pull_back(gradient * scale)
    survived = (jnp.linalg.norm(arriving) * jnp.std(features) / jnp.linalg.norm(gradient * scale)) ** 2
    # The shares are those at the usual epsilon, which leaves a little more than none.
    assert jnp.abs(1 - share.mean - share.along - survived) < 1e-4
    assert share.mean + share.along > 1e-3


def test_without_a_normalizer_the_shares_are_those_that_batch_normalization_would_remove(network):
    model, variables, images, loss = network
    plain = MLP((5, 1), norm=identity(), classes=3)
    params = {key: leaves for key, leaves in variables["params"].items() if "kernel" in leaves}
    shares = blocked_shares(plain, {"params": params}, images, loss)
    assert len(shares) == len(blocked_shares(model, variables, images, loss)) == 2
    passing = passages(plain, {"params": params}, images, loss)
    for name, share in shares.items():
        features, _, gradient = passing[name]
        assert_close(share.mean, len(features) * jnp.sum(jnp.mean(gradient, 0) ** 2) / jnp.sum(gradient**2))
