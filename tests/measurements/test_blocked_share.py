"""What batch normalization removes of a gradient is what its derivative maps to zero, at every normalizer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from bnjax.measurements import blocked_share, gradient_parts
from bnjax.models import MLP, passages
from bnjax.normalizers import batch_norm, identity
from tests.audit.models import TRAIN, Partitioned
from tests.comparison import assert_close

LOSS = optax.softmax_cross_entropy_with_integer_labels
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

    return model, {**variables, "params": moved}, images, labels


def mean_loss(labels):
    return lambda logits: jnp.mean(LOSS(logits, labels))


def test_what_is_not_removed_gets_back_whole_through_a_single_feature(network):
    model, variables, images, labels = network
    name, share = list(blocked_share(model, variables, images, labels, loss=LOSS).shares.items())[-1]
    features, _, gradient, _ = passages(model, variables, images, mean_loss(labels))[name]
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
    model, variables, images, labels = network
    plain = MLP((5, 1), norm=identity(), classes=3)
    params = {key: leaves for key, leaves in variables["params"].items() if "kernel" in leaves}
    shares = blocked_share(plain, {"params": params}, images, labels, loss=LOSS).shares
    assert len(shares) == len(blocked_share(model, variables, images, labels, loss=LOSS).shares) == 2
    passing = passages(plain, {"params": params}, images, mean_loss(labels))
    for name, share in shares.items():
        features, _, gradient, _ = passing[name]
        assert_close(share.mean, len(features) * jnp.sum(jnp.mean(gradient, 0) ** 2) / jnp.sum(gradient**2))


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
    x, labels = jnp.asarray(generator.normal(size=(6, 2, 3))), jnp.arange(6) % 3
    variables = FlaxNetwork().init(jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: leaf + 0.3 * generator.normal(size=leaf.shape), variables)

    @jax.jit
    def metered(variables):
        return blocked_share(FlaxNetwork(), variables, x, labels, loss=LOSS, apply_kwargs={"train": True})

    return variables, x, labels, metered(variables)


def two_passes(name, axes, variables, x, labels):
    """The shares at one normalizer by its parts: a pass for what it returns, and one for the gradient there."""
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

    features, output = jax.jit(lambda: (loss(0.0), returned[0])[1])()
    scale = variables["params"].get(name, {}).get("scale", jnp.ones(()))
    gradient = jax.jit(jax.grad(loss))(jnp.zeros_like(output))
    gradient = gradient * (scale[:, None] if name == "axis" else scale)
    standardized = (features - features.mean(axes, keepdims=True)) / features.std(axes, keepdims=True)
    parts = gradient_parts(gradient, standardized, axes)
    return [jnp.sum(part**2) / jnp.sum(gradient**2) for part in (parts.mean, parts.along, parts.rest)]


@pytest.mark.parametrize(("name", "axes"), [("plain", (0, 1)), ("axis", (0, 2)), ("deep", (0,)), ("by_row", (0,))])
def test_one_pass_gives_the_shares_of_every_normalizer_of_flaxs_that_two_passes_give_of_each(flax_network, name, axes):
    variables, x, labels, metered = flax_network
    assert list(metered.shares) == ["plain", "axis", "deep", "by_row"]
    share = metered.shares[name]
    mean, along, rest = two_passes(name, axes, variables, x, labels)
    assert_close(jnp.stack([share.mean, share.along, share.passed]), jnp.stack([mean, along, rest]), order=2)


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


def test_partitioned_parameters_get_partitioned_gradients():
    model, inputs = Partitioned(), jnp.asarray(np.random.default_rng(3).normal(size=(6, 3)))
    variables = model.init(jax.random.key(0), inputs)
    found, plain = (
        blocked_share(model, given, inputs, loss=lambda y: jnp.sum(y**2), apply_kwargs=TRAIN)
        for given in (variables, nn.unbox(variables))
    )
    assert found.shares == plain.shares
    assert jax.tree.structure(found.gradient) == jax.tree.structure(variables["params"])


def test_a_model_without_parameters_has_shares_too():
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.BatchNorm(use_running_average=False, use_scale=False, use_bias=False, name="norm")(x)

    inputs = jnp.asarray(np.random.default_rng(3).normal(size=(6, 3)))
    found = blocked_share(Plain(), Plain().init(jax.random.key(0), inputs), inputs, loss=jnp.sum)
    assert_close(found.shares["norm"].mean, jnp.ones(()))
    assert found.gradient == {}


def test_what_is_removed_is_what_scale_and_bias_get(flax_network):
    variables, x, labels, metered = flax_network
    passage = passages(FlaxNetwork(), variables, x, mean_loss(labels), train=True)["deep"]
    scale, gradient = variables["params"]["deep"]["scale"], metered.gradient["deep"]
    whole = jnp.sum((scale * passage.gradient) ** 2)
    share = metered.shares["deep"]
    assert_close(share.mean, jnp.sum((scale * gradient["bias"]) ** 2) / 6 / whole, order=1)
    # The gradient of scale has ε in its ŷ.
    assert abs(share.along / (jnp.sum((scale * gradient["scale"]) ** 2) / 6 / whole) - 1) < 1e-3


def test_where_there_is_no_gradient_there_are_no_shares_of_it(network):
    model, variables, images, labels = network
    name = [*blocked_share(model, variables, images, labels, loss=LOSS).shares][-1]
    last = {**variables["params"][name], "scale": jnp.zeros(1)}
    without = {**variables, "params": {**variables["params"], name: last}}
    for share in blocked_share(model, without, images, labels, loss=LOSS).shares.values():
        assert jnp.isnan(jnp.stack([share.mean, share.along, share.passed])).all()


def test_normalizers_that_are_applied_twice_or_out_of_sight_are_refused():
    class Shared(nn.Module):
        @nn.compact
        def __call__(self, x):
            norm = nn.LayerNorm(name="norm")
            return norm(jnp.tanh(norm(x)))

    class Hidden(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.remat(nn.LayerNorm)(name="norm")(x)

    x = jnp.sin(jnp.arange(8.0)).reshape(2, 4)
    for model, message in ((Shared(), "got norm applied several times"), (Hidden(), r"norm is inside of nn\.scan")):
        with pytest.raises(ValueError, match=message):
            blocked_share(model, model.init(jax.random.key(0), x), x, loss=jnp.sum)


def test_a_loss_that_is_not_of_one_row_is_refused(network):
    model, variables, images, labels = network
    with pytest.raises(ValueError, match=r"needs to be one scalar, got shapes \[\(\d"):
        blocked_share(model, variables, images, labels, loss=lambda outputs, _: outputs)


TWO_AXES: Any = (1, 2)


@pytest.mark.parametrize(
    "norm",
    [nn.LayerNorm(reduction_axes=TWO_AXES, feature_axes=TWO_AXES), nn.BatchNorm(False, axis=TWO_AXES)],
    ids=["layer_norm", "batch_norm"],
)
def test_several_axes_of_features_are_refused(norm):
    model, x = nn.Sequential([norm]), jnp.sin(jnp.arange(8.0)).reshape(4, 2, 1)
    with pytest.raises(ValueError, match=r"layers_0 needs one axis of features.*\(2, 1\)"):
        blocked_share(model, model.init(jax.random.key(0), x), x, loss=jnp.sum)


def test_labels_of_another_number_of_rows_are_named(network):
    model, variables, images, labels = network
    with pytest.raises(ValueError, match=r"^row argument 0 needs one entry for each of the 8 rows, got shape \(5,\)"):
        blocked_share(model, variables, images, labels[:5], loss=LOSS)


class NnxNetwork(nnx.Module):
    def __init__(self):
        self.norm = nnx.BatchNorm(6, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.norm(x)


def running_of_linen(images, labels):
    model = nn.Sequential([nn.Dense(3), nn.BatchNorm(use_running_average=True, name="norm")])
    return lambda: blocked_share(model, model.init(jax.random.key(0), images), images, labels, loss=LOSS)


def running_of_nnx(images, labels):
    model = NnxNetwork()
    model.eval()
    return lambda: blocked_share(model, None, images, labels, loss=LOSS)


def running_of_the_library(images, labels):
    model = MLP((5,), norm=batch_norm(), classes=3)
    variables = model.init(jax.random.key(0), images)
    return lambda: blocked_share(model, variables, images, labels, loss=LOSS, apply_kwargs={"mode": "running"})


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("of", [running_of_linen, running_of_nnx, running_of_the_library])
def test_running_statistics_are_refused(network, of, compiled):
    call = of(*network[2:])
    with pytest.raises(ValueError, match=r"needs to take the statistics of the batch.*set the model to training"):
        (jax.jit(lambda: call().shares) if compiled else call)()


def test_statistics_that_are_missing_are_named(network):
    _, _, images, labels = network
    model = nn.Sequential([nn.Dense(3), nn.BatchNorm(use_running_average=False, name="norm")])
    params = model.init(jax.random.key(0), images)["params"]
    with pytest.raises(
        ValueError, match=r"layers_1 needs its running statistics, but variables\['batch_stats'\] has none"
    ):
        blocked_share(model, {"params": params}, images, labels, loss=LOSS)


def test_partitioned_parameters_are_taken_beside_a_batch_on_explicit_axes():
    inputs = jnp.asarray(np.random.default_rng(3).normal(size=(6, 3)))
    variables = Partitioned().init(jax.random.key(0), inputs)
    rows = NamedSharding(jax.make_mesh((1,), ("model",)), PartitionSpec("model"))
    found, expected = (
        blocked_share(Partitioned(), variables, batch, loss=lambda y: jnp.sum(y**2), apply_kwargs=TRAIN).shares["norm"]
        for batch in (jax.device_put(inputs, rows), inputs)
    )
    assert_close(found.mean, expected.mean)
    assert_close(found.along, expected.along)
