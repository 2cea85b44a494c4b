"""A pruned network has fewer numbers and the same output; what cannot go stays."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnjax.measurements import filter_margins, prune
from bnjax.models import MLP, DenseNet, ResNet
from bnjax.normalizers import batch_norm, post_shifted_batch_norm

SMALL = jax.device_put(np.random.default_rng(0).normal(size=(6, 8, 8, 1)).astype(np.float32))


def with_collapsed_filters(model, images, share=0.4, others=0.0):
    """Return variables of a network with a random share of every normalizer's filters far in the dead region."""
    variables = jax.jit(model.init)({"params": jax.random.key(0), "dropout": jax.random.key(1)}, images)
    generator = np.random.default_rng(1)

    def shifted(path, leaf):
        if path[-1].key != "bias" or not path[-2].key.startswith(("Normalization", "BatchNorm")):
            return leaf
        moved = np.where(generator.uniform(size=leaf.shape) < share, -50.0, np.asarray(leaf) + others)
        return jax.device_put(moved.astype(leaf.dtype))

    return {**variables, "params": jax.tree_util.tree_map_with_path(shifted, variables["params"])}


@partial(jax.jit, static_argnums=0, static_argnames="mode")
def returned(model: Any, variables, *inputs, **options) -> Any:
    return model.apply(variables, *inputs, **options)


def returned_by_pruned(pruned, *inputs, **options):
    return jax.jit(lambda *inputs: pruned.apply(*inputs, **options))(*inputs)


def assert_as_before(after, before):
    after, before = np.asarray(after), np.asarray(before)
    assert np.max(np.abs(after - before)) <= 1e-6 * np.max(np.abs(before))


def collapsed(model, variables, images, **options):
    margins = jax.jit(lambda variables: filter_margins(model, variables, images, **options))(variables)
    return {name: int((np.asarray(margin) < 0).sum()) for name, margin in margins.items()}


NETWORKS = {
    "mlp": MLP(norm=batch_norm(), classes=3),
    "post_shifted": MLP(norm=post_shifted_batch_norm(), classes=3),
    "resnet": ResNet((1, 1), width=8, norm=batch_norm()),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """Return a network, its variables and what is left of it."""
    model = NETWORKS[request.param]
    variables = with_collapsed_filters(model, SMALL)
    return model, variables, prune(model, variables, SMALL, mode="running")


def test_the_output_is_that_of_the_whole_network_and_every_collapsed_filter_is_gone(network):
    model, variables, pruned = network
    before = returned(model, variables, SMALL, mode="running")
    assert_as_before(returned_by_pruned(pruned, SMALL, mode="running"), before)
    found = collapsed(model, variables, SMALL, mode="running")
    inner = {name: count for name, count in found.items() if count and name != "Normalization_0"}
    assert inner
    assert {name: count for name, count in pruned.removed.items() if name in inner} == inner
    assert pruned.parameters[1] < pruned.parameters[0]
    assert pruned.operations[1] < pruned.operations[0]


@pytest.mark.parametrize("network", ["mlp"], indirect=True)
def test_counts_are_those_of_the_arrays_and_of_the_layers(network):
    _, variables, pruned = network
    kernels = [leaf for leaf in jax.tree.leaves(pruned.variables["params"]) if leaf.ndim == 2]
    assert pruned.operations[1] == sum(2 * kernel.size for kernel in kernels)
    assert pruned.parameters[1] == sum(leaf.size for leaf in jax.tree.leaves(pruned.variables["params"]))
    assert pruned.parameters[0] == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("network", ["resnet"], indirect=True)
def test_a_filter_that_a_residual_sum_reads_stays(network):
    *_, pruned = network
    assert "Normalization_0" not in pruned.removed
    assert "ResidualBlock_0/Normalization_0" in pruned.removed


def test_of_a_layer_that_is_collapsed_throughout_one_filter_stays():
    model = MLP(norm=batch_norm(), classes=3)
    variables = with_collapsed_filters(model, SMALL, share=1.1)
    pruned = prune(model, variables, SMALL, mode="running")
    assert set(pruned.widths.values()) == {1}
    after = returned_by_pruned(pruned, SMALL, mode="running")
    assert np.allclose(after, returned(model, variables, SMALL, mode="running"))


def test_a_network_without_collapsed_filters_is_left_as_it_is():
    model = MLP((9,), norm=batch_norm(), classes=3)
    variables = with_collapsed_filters(model, SMALL, share=0.0, others=9.0)
    pruned = prune(model, variables, SMALL, mode="running")
    assert pruned.removed == {}
    assert pruned.variables is variables
    assert pruned.parameters[0] == pruned.parameters[1]
    assert pruned.operations[0] == pruned.operations[1]


def test_what_is_normalized_before_its_layer_stays():
    model = DenseNet((2,), growth=4, norm=batch_norm())
    variables = with_collapsed_filters(model, SMALL)
    pruned = prune(model, variables, SMALL, mode="running")
    before = returned(model, variables, SMALL, mode="running")
    assert_as_before(returned_by_pruned(pruned, SMALL, mode="running"), before)


class Averaged(nn.Module):
    """What leaves the ReLU is averaged over the filters, so that all of them are in what the next layer reads."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Dense(6)(x)))
        return nn.Dense(2)(jnp.mean(x, axis=-1, keepdims=True))


class ByHand(nn.Module):
    """A network of flax's own layers."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(6, (3, 3))(x)))
        x = nn.max_pool(x, (2, 2), (2, 2)).reshape(len(x), -1)
        x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Dense(7)(x)))
        return nn.Dense(2)(x)


def test_a_filter_whose_mean_with_others_is_read_stays():
    model = Averaged()
    x = SMALL.reshape(len(SMALL), -1)
    assert prune(model, with_collapsed_filters(model, x), x).removed == {}


@pytest.fixture(scope="module")
def by_hand():
    variables = with_collapsed_filters(ByHand(), SMALL)
    return ByHand(), variables, prune(ByHand(), variables, SMALL)


def test_flax_own_layers_are_pruned_through_pooling_and_flattening(by_hand):
    model, variables, pruned = by_hand
    assert pruned.removed == collapsed(model, variables, SMALL)
    before = returned(model, variables, SMALL)
    assert_as_before(returned_by_pruned(pruned, SMALL), before)
    rows = pruned.variables["params"]["Dense_0"]["kernel"].shape[0]
    assert rows == 16 * pruned.widths["Conv_0"]


class Depthwise(nn.Module):
    """A convolution that reads every channel for itself."""

    @nn.compact
    def __call__(self, x):
        for groups in (1, 8):
            x = nn.Conv(8, (3, 3), feature_group_count=groups)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        return nn.Dense(2)(x.mean((1, 2)))


def test_what_a_convolution_in_groups_reads_or_makes_stays():
    model = Depthwise()
    assert prune(model, with_collapsed_filters(model, SMALL), SMALL).removed == {}


def test_what_prune_cannot_compare_is_refused():
    model = MLP(norm=batch_norm(), classes=3)
    variables = with_collapsed_filters(model, SMALL)
    spoilt = np.array(SMALL)
    spoilt[0] = np.nan
    with pytest.raises(ValueError, match="need to be finite, got NaN"):
        prune(model, variables, jax.device_put(spoilt), mode="running")
    with pytest.raises(ValueError, match="leave out mutable="):
        prune(model, variables, SMALL, mode="batch", mutable=["batch_stats"])


class Branches(nn.Module):
    """A sum of two branches, behind which all is as usual."""

    @nn.compact
    def __call__(self, x):
        one, other = (nn.relu(nn.BatchNorm(use_running_average=True)(nn.Dense(6)(x))) for _ in range(2))
        x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Dense(6)(one + other)))
        return nn.Dense(2)(x)


def test_where_a_sum_needs_what_one_of_its_branches_could_lose_the_rest_is_removed_nonetheless():
    model = Branches()
    x = SMALL.reshape(len(SMALL), -1)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    dead = {"BatchNorm_0": 2, "BatchNorm_1": 1, "BatchNorm_2": 3}
    params = {
        name: {**own, "bias": jax.device_put(np.where(np.arange(6) < dead[name], -50.0, 50.0))} if name in dead else own
        for name, own in variables["params"].items()
    }
    # The sum is positive, and so is what the last normalizer gets.
    kernel = jax.device_put(1e-3 * np.abs(params["Dense_2"]["kernel"]))
    variables = {**variables, "params": {**params, "Dense_2": {**params["Dense_2"], "kernel": kernel}}}
    before = returned(model, variables, x)
    pruned = prune(model, variables, x)
    assert pruned.removed == {"BatchNorm_2": 3}
    assert_as_before(returned_by_pruned(pruned, x), before)


def test_operations_of_a_convolution_count_every_position(by_hand):
    *_, pruned = by_hand
    convolution, hidden, last = (8 * 8) * (3 * 3 * 6), (4 * 4 * 6) * 7, 7 * 2
    assert pruned.operations[0] == 2 * (convolution + hidden + last)


class Reader(nn.Module):
    """Something between the ReLU and what reads it, and something made of the logits."""

    between: Any = staticmethod(lambda z: z)
    made: Any = staticmethod(lambda logits: logits)

    @nn.compact
    def __call__(self, x):
        z = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Dense(6)(x)))
        return self.made(nn.Dense(3)(self.between(z)))


@pytest.mark.parametrize(
    "between", [lambda z: jnp.where(z > 0.5, z, 0.0), lambda z: (z > 0).astype(float), jnp.nan_to_num]
)
def test_a_filter_that_something_reads_before_the_next_layer_may_stay_and_nothing_fails(between):
    model, x = Reader(between), SMALL.reshape(6, -1)
    variables = with_collapsed_filters(model, x)
    pruned = prune(model, variables, x)
    np.testing.assert_allclose(returned_by_pruned(pruned, x), returned(model, variables, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "made", [lambda y: jnp.argmax(y, -1), lambda y: (y, y > 0), lambda y: y[:0]], ids=["classes", "several", "empty"]
)
def test_outputs_may_be_whole_numbers_or_none(made):
    model, x = Reader(made=made), SMALL.reshape(6, -1)
    variables = with_collapsed_filters(model, x)
    pruned = prune(model, variables, x)
    assert pruned.removed
    assert "removed" in repr(pruned)
    jax.tree.map(
        lambda own, other: np.testing.assert_allclose(own, other, rtol=1e-5),
        pruned.apply(x),
        returned(model, variables, x),
    )
