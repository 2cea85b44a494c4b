"""What batch normalization removes of a gradient is what its derivative maps to zero, at every normalizer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec

from bnjax.measurements import blocked_share, gradient_parts
from bnjax.models import MLP, Normalization, passages
from bnjax.normalizers import batch_norm, identity, noisy_batch_norm
from tests.audit.models import TRAIN, Partitioned
from tests.comparison import assert_close

LOSS = optax.softmax_cross_entropy_with_integer_labels
SHAPES = [(9, 5), (3, 4, 2, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_parts_add_up_to_the_gradient_and_are_orthogonal(shape):
    features, gradient = np.random.default_rng(0).normal(size=(2, *shape))
    axes = tuple(range(len(shape) - 1))
    standardized = (features - np.mean(features, axes)) / np.std(features, axes)
    mean, along, rest = map(np.asarray, jax.jit(partial(gradient_parts, axes=axes))(gradient, standardized))
    assert_close(mean + along + rest, gradient)
    for one, other in ((mean, along), (mean, rest), (along, rest)):
        assert_close(np.sum(one * other, axes), np.zeros(5))
    assert_close(mean, np.broadcast_to(np.mean(gradient, axes), shape))
    assert_close(np.sum(rest * standardized, axes), np.zeros(5))


@pytest.fixture(scope="module")
def network():
    generator = np.random.default_rng(1)
    images, labels = jax.device_put(generator.normal(size=(8, 6))), jax.device_put(generator.integers(0, 3, 8))
    model = MLP((5, 1), norm=batch_norm(epsilon=0.0), classes=3)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    return model, {**variables, "params": moved(variables["params"], generator)}, images, labels


def moved(tree, generator):
    """Return a tree in float64, every number of which is a little different."""
    return jax.device_put(
        jax.tree.map(lambda leaf: leaf + 0.3 * generator.normal(size=leaf.shape), jax.device_get(tree))
    )


@partial(jax.jit, static_argnums=0)
def shares_of(model, variables, images, labels):
    return blocked_share(model, variables, images, labels, loss=LOSS).shares


@partial(jax.jit, static_argnums=0, static_argnames="train")
def passages_of(model, variables, images, labels, **options):
    return passages(model, variables, images, lambda logits: jnp.mean(LOSS(logits, labels)), **options)


def test_what_is_not_removed_gets_back_whole_through_a_single_feature(network):
    model, variables, images, labels = network
    name, share = list(jax.device_get(shares_of(model, variables, images, labels)).items())[-1]
    features, _, gradient, _, _ = jax.device_get(passages_of(model, variables, images, labels)[name])
    assert features.shape == (8, 1)
    leaving = gradient * np.asarray(variables["params"][name]["scale"])
    plain = batch_norm(epsilon=0.0, affine=False)

    @jax.jit
    def pulled_back(features, leaving):
        return jax.vjp(lambda x: plain.apply(*plain.init(features), x)[0], features)[1](leaving)

    (arriving,) = pulled_back(features, leaving)
    survived = (np.linalg.norm(np.asarray(arriving)) * np.std(features) / np.linalg.norm(leaving)) ** 2
    # The shares are those at the usual epsilon, which leaves a little more than none.
    assert abs(1 - share.mean - share.along - survived) < 1e-4
    assert share.mean + share.along > 1e-3


def test_without_a_normalizer_the_shares_are_those_that_batch_normalization_would_remove(network):
    model, variables, images, labels = network
    plain = MLP((5, 1), norm=identity(), classes=3)
    params = {key: leaves for key, leaves in variables["params"].items() if "kernel" in leaves}
    shares = shares_of(plain, {"params": params}, images, labels)
    assert len(shares) == len(shares_of(model, variables, images, labels)) == 2
    passing = passages_of(plain, {"params": params}, images, labels)
    for name, share in shares.items():
        gradient = np.asarray(passing[name].gradient)
        assert_close(share.mean, len(gradient) * np.sum(np.mean(gradient, 0) ** 2) / np.sum(gradient**2))


class FlaxNetwork(nn.Module):
    """Normalizers of flax's: with and without affine parameters, over another axis, and one by row."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train, name="plain", use_scale=False, use_bias=False)(x)
        x = nn.BatchNorm(use_running_average=not train, axis=1, epsilon=1e-3, name="axis")(jnp.tanh(x))
        x = nn.BatchNorm(use_running_average=not train, name="deep")(nn.Dense(3)(x.reshape(len(x), -1)))
        return nn.Dense(3)(nn.LayerNorm(name="by_row")(jnp.tanh(x)))


@pytest.fixture(scope="module")
def flax_network():
    generator = np.random.default_rng(4)
    x, labels = jax.device_put(generator.normal(size=(6, 2, 3))), jax.device_put(np.arange(6) % 3)
    variables = moved(jax.jit(FlaxNetwork().init)(jax.random.key(0), x), generator)

    @jax.jit
    def metered(variables):
        return blocked_share(FlaxNetwork(), variables, x, labels, loss=LOSS, apply_kwargs={"train": True})

    return variables, x, labels, metered(variables)


@partial(jax.jit, static_argnums=(0, 1))
def two_passes(name, axes, variables, x, labels):
    """Return the shares at one normalizer by its parts: a pass for what it returns, and one for the gradient there."""
    returned = []

    def loss(shift):
        def around(call, args, kwargs, context):
            output = call(*args, **kwargs)
            if "/".join(context.module.path) != name:
                return output
            returned.append((args[0], output))
            return output + shift

        with nn.intercept_methods(around):
            outputs, _ = FlaxNetwork().apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.mean(LOSS(outputs, labels))

    loss(0.0)
    features, output = returned[0]
    scale = variables["params"].get(name, {}).get("scale", jnp.ones(()))
    gradient = jax.grad(loss)(jnp.zeros_like(output))
    gradient = gradient * (scale[:, None] if name == "axis" else scale)
    standardized = (features - features.mean(axes, keepdims=True)) / features.std(axes, keepdims=True)
    parts = gradient_parts(gradient, standardized, axes)
    return [jnp.sum(part**2) / jnp.sum(gradient**2) for part in (parts.mean, parts.along, parts.rest)]


@pytest.mark.parametrize(("name", "axes"), [("plain", (0, 1)), ("axis", (0, 2)), ("deep", (0,)), ("by_row", (0,))])
def test_one_pass_gives_the_shares_of_every_normalizer_of_flaxs_that_two_passes_give_of_each(flax_network, name, axes):
    variables, x, labels, metered = flax_network
    assert list(metered.shares) == ["plain", "axis", "deep", "by_row"]
    share = metered.shares[name]
    expected = two_passes(name, axes, variables, x, labels)
    assert_close(np.stack([share.mean, share.along, share.passed]), np.stack(expected), order=2)


def test_the_same_pass_gives_a_training_step_its_loss_gradient_and_statistics(flax_network):
    variables, x, labels, metered = flax_network

    @jax.jit
    @jax.value_and_grad
    def plain(params):
        outputs, _ = FlaxNetwork().apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.mean(LOSS(outputs, labels))

    loss, gradient = plain(variables["params"])
    assert_close(metered.loss, loss)
    for found, expected in zip(jax.tree.leaves(metered.gradient), jax.tree.leaves(gradient), strict=True):
        assert_close(found, expected, order=1, scale=1.0)
    assert jax.tree.structure(metered.updated["batch_stats"]) == jax.tree.structure(variables["batch_stats"])


@pytest.fixture(scope="module")
def partitioned():
    inputs = jax.device_put(np.random.default_rng(3).normal(size=(6, 3)))
    return jax.jit(Partitioned().init)(jax.random.key(0), inputs), inputs


def metered_in_parts(variables, inputs):
    return blocked_share(Partitioned(), variables, inputs, loss=lambda y: jnp.sum(y**2), apply_kwargs=TRAIN)


def test_partitioned_parameters_get_partitioned_gradients(partitioned):
    variables, inputs = partitioned
    found, plain = (jax.jit(metered_in_parts)(given, inputs) for given in (variables, nn.unbox(variables)))
    assert found.shares == plain.shares
    assert jax.tree.structure(found.gradient) == jax.tree.structure(variables["params"])


def test_a_model_without_parameters_has_shares_too():
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.BatchNorm(use_running_average=False, use_scale=False, use_bias=False, name="norm")(x)

    inputs = jax.device_put(np.random.default_rng(3).normal(size=(6, 3)))
    variables = jax.jit(Plain().init)(jax.random.key(0), inputs)
    found = jax.jit(lambda variables: blocked_share(Plain(), variables, inputs, loss=jnp.sum))(variables)
    assert_close(found.shares["norm"].mean, 1.0)
    assert found.gradient == {}


def test_what_is_removed_is_what_scale_and_bias_get(flax_network):
    variables, x, labels, metered = flax_network
    passage = passages_of(FlaxNetwork(), variables, x, labels, train=True)["deep"]
    scale, gradient = jax.device_get((variables["params"]["deep"]["scale"], metered.gradient["deep"]))
    whole = np.sum((scale * np.asarray(passage.gradient)) ** 2)
    share = jax.device_get(metered.shares["deep"])
    assert_close(share.mean, np.sum((scale * gradient["bias"]) ** 2) / 6 / whole, order=1)
    # The gradient of scale has ε in its ŷ.
    assert abs(share.along / (np.sum((scale * gradient["scale"]) ** 2) / 6 / whole) - 1) < 1e-3


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm(use_running_average=False), nn.LayerNorm(), Normalization(batch_norm())],
    ids=["batch_norm", "layer_norm", "normalization"],
)
def test_a_model_that_is_a_normalizer_has_the_shares_that_it_has_inside_of_another(norm):
    generator = np.random.default_rng(5)
    x, targets = jax.device_put(generator.normal(size=(2, 6, 3)))
    variables = moved(jax.jit(norm.init)(jax.random.key(0), x), generator)
    inside = {collection: {"layers_0": values} for collection, values in variables.items()}

    @jax.jit
    def both():
        pairs = (norm, variables), (nn.Sequential([norm.copy()]), inside)
        return [
            blocked_share(model, given, x, targets, loss=lambda y, target: jnp.sum((y - target) ** 2)).shares
            for model, given in pairs
        ]

    alone, wrapped = both()
    assert list(alone) == [""]
    assert_close(np.stack(alone[""]), np.stack(wrapped["layers_0"]))


def test_the_gradient_behind_noise_is_that_at_the_standardized_features():
    generator = np.random.default_rng(6)
    x, targets = jax.device_put(generator.normal(size=(2, 6, 3)))
    # Without noise of the mean s is y / ŷ.
    model = Normalization(noisy_batch_norm(mean_noise=0.0, mean_spread=0.0, deviation_spread=0.5, affine=False))
    variables = jax.jit(model.init)(jax.random.key(0), x)
    rngs = {"noise": jax.random.key(1)}

    @jax.jit
    def found():
        share = blocked_share(model, variables, x, targets, loss=lambda y, t: jnp.sum((y - t) ** 2), rngs=rngs)
        return share.shares[""], model.apply(variables, x, mutable=["batch_stats"], rngs=rngs)[0]

    share, y = jax.device_get(found())
    standardized = (x - np.mean(x, 0)) / np.sqrt(np.var(x, 0) + 1e-5)
    gradient = y / standardized * 2 * (y - targets)
    parts = gradient_parts(gradient, standardized, (0,))
    assert_close(share.mean, np.sum(parts.mean**2) / np.sum(gradient**2))
    assert_close(share.along, np.sum(parts.along**2) / np.sum(gradient**2))


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_the_shares_of_a_small_or_large_gradient_are_those_of_a_usual_one(network, factor):
    model, variables, *batch = network
    usual, scaled = (
        {name: np.stack(share) for name, share in shares_in_float32(model, size, variables, *batch).items()}
        for size in (1.0, factor)
    )
    for name, shares in usual.items():
        np.testing.assert_allclose(scaled[name], shares, rtol=1e-4)


@partial(jax.jit, static_argnums=(0, 1))
def shares_in_float32(model, factor, variables, images, labels):
    variables, images = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (variables, images))
    return blocked_share(model, variables, images, labels, loss=lambda *row: factor * LOSS(*row)).shares


def test_where_there_is_no_gradient_there_are_no_shares_of_it(network):
    model, variables, images, labels = network
    name = [*shares_of(model, variables, images, labels)][-1]
    last = {**variables["params"][name], "scale": np.zeros(1)}
    without = {**variables, "params": {**variables["params"], name: last}}
    for share in shares_of(model, without, images, labels).values():
        assert np.isnan([share.mean, share.along, share.passed]).all()


def test_partitioned_parameters_are_taken_beside_a_batch_on_explicit_axes(partitioned):
    variables, inputs = partitioned
    rows = NamedSharding(jax.make_mesh((1,), ("model",)), PartitionSpec("model"))
    found = metered_in_parts(variables, jax.device_put(inputs, rows)).shares["norm"]
    expected = jax.jit(metered_in_parts)(variables, inputs).shares["norm"]
    assert_close(found.mean, expected.mean)
    assert_close(found.along, expected.along)
