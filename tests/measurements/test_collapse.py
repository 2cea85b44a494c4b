"""Margins are those of the pre-activations, and only of normalizers that stand directly before a ReLU."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnjax.measurements import before_relu, filter_margins
from bnjax.models import MLP, VGGA, ResNet
from bnjax.models.normalizer import Normalization
from bnjax.normalizers import batch_norm, post_shifted_batch_norm
from bnjax.normalizers.normalizer import Mode
from tests.comparison import assert_close

X = jax.device_put(np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32))


class Behind(nn.Module):
    """One normalizer before any function."""

    function: Callable[[Any], Any]
    flax_norm: bool = False

    @nn.compact
    def __call__(self, x, *, mode: Mode = "batch"):
        x = nn.Dense(4)(x)
        y = nn.BatchNorm(use_running_average=True)(x) if self.flax_norm else Normalization(batch_norm())(x, mode=mode)
        return self.function(y)


def initialized(model, *inputs):
    return jax.jit(model.init)({"params": jax.random.key(0), "dropout": jax.random.key(1)}, *inputs)


@pytest.fixture(scope="module", params=[False, True])
def own_or_flaxs(request):
    """Return whose the normalizer is, and variables of `Behind`, which are the same whatever the function is."""
    return request.param, initialized(Behind(nn.relu, request.param), X)


@pytest.mark.parametrize(
    ("function", "rectified"),
    [
        (nn.relu, True),
        (lambda y: jnp.maximum(y, 0), True),
        (lambda y: jnp.maximum(0.0, y), True),
        (jax.checkpoint(nn.relu), True),
        (jax.jit(nn.relu), True),
        (nn.relu6, True),
        (lambda y: nn.relu(y) @ jnp.ones((4, 2)), True),
        (lambda y: nn.relu(y) + y, False),
        (lambda y: nn.relu(y + 1), False),
        (lambda y: jnp.maximum(y, -1), False),
        (lambda y: jnp.maximum(y, y[::-1]), False),
        (nn.leaky_relu, False),
        (nn.gelu, False),
        (lambda y: y, False),
        (lambda _: jnp.zeros(3), False),
    ],
)
def test_a_normalizer_is_before_a_relu_if_all_that_reads_it_is_one(own_or_flaxs, function, rectified):
    flax_norm, variables = own_or_flaxs
    assert bool(before_relu(Behind(function, flax_norm), variables, X)) is rectified


def test_in_a_residual_block_only_the_inner_normalizers_are():
    model = ResNet((1, 1), width=2, norm=batch_norm())
    images = jax.device_put(np.zeros((2, 8, 8, 1), np.float32))
    names = before_relu(model, initialized(model, images), images, mode="running")
    assert names == ["Normalization_0", "ResidualBlock_0/Normalization_0", "ResidualBlock_1/Normalization_0"]


def test_the_margin_is_the_largest_pre_activation_over_rows_and_positions():
    model = VGGA(width=2, norm=batch_norm())
    images = jax.device_put(np.random.default_rng(1).normal(size=(3, 32, 32, 1)).astype(np.float32))
    variables = initialized(model, images)
    names = []

    @jax.jit
    def both(variables):
        margins = filter_margins(model, variables, images, mode="running")
        names.extend(margins)
        options: dict[str, Any] = {"mutable": ["intermediates"], "capture_intermediates": True}
        captured: Any = model.apply(variables, images, mode="running", **options)[1]
        return margins, {name: captured["intermediates"][name]["__call__"][0] for name in margins}

    margins, outputs = both(variables)
    assert names == [f"Normalization_{index}" for index in range(10)]
    for name in names:
        output = np.asarray(outputs[name])
        assert_close(margins[name], output.reshape(-1, output.shape[-1]).max(axis=0))


@pytest.mark.parametrize("norm", [batch_norm(epsilon=0.0), post_shifted_batch_norm(shift=0.5, epsilon=0.0)])
def test_a_filter_of_negative_margin_gets_no_gradient_and_one_of_positive_margin_does(norm):
    model = MLP(norm=norm, classes=3)
    images = jax.device_put(np.random.default_rng(2).normal(size=(8, 4, 4, 1)))
    variables = jax.device_put(jax.tree.map(lambda leaf: np.asarray(leaf, float), initialized(model, images)))
    options: dict[str, Any] = {"mode": "batch", "mutable": ["batch_stats"]}
    name = before_relu(model, variables, images, **options)[0]
    params = variables["params"]
    bias = jax.device_put(np.linspace(-4, 1, params[name]["bias"].size))
    params = {**params, name: {**params[name], "bias": bias}}

    def loss(params):
        logits, _ = model.apply({**variables, "params": params}, images, **options)
        return jnp.sum(jnp.sin(logits * jnp.arange(1.0, 4.0)))

    @jax.jit
    def margins_and_gradient(params):
        return filter_margins(model, {**variables, "params": params}, images, **options), jax.grad(loss)(params)

    margins, gradient = jax.device_get(margins_and_gradient(params))
    collapsed = margins[name] < 0
    assert collapsed.any()
    assert not collapsed.all()
    assert np.all((gradient[name]["bias"] == 0) == collapsed)
    assert np.all((gradient[name]["scale"] == 0) == collapsed)


def test_a_normalizer_applied_twice_is_refused():
    class Shared(nn.Module):
        @nn.compact
        def __call__(self, x):
            norm = nn.BatchNorm(use_running_average=True)
            return nn.relu(norm(nn.relu(norm(x))))

    with pytest.raises(ValueError, match="BatchNorm_0 applied several times"):
        filter_margins(Shared(), initialized(Shared(), X), X)


def test_a_normalizer_inside_of_a_rematerialized_part_is_refused():
    class Wrapped(nn.Module):
        @nn.compact
        def __call__(self, x):
            part: Any = nn.remat(Behind)(nn.relu, True)
            return part(x)

    with pytest.raises(ValueError, match=r"BatchNorm_0 is inside of nn.scan, nn.remat or nn.jit"):
        filter_margins(Wrapped(), initialized(Wrapped(), X), X)


def test_inputs_without_rows_are_refused():
    model = Behind(nn.relu)
    with pytest.raises(ValueError, match=r"at least one row, got inputs \[\(0, 5\)\]"):
        filter_margins(model, initialized(model, X), X[:0])


@pytest.mark.parametrize("flax_norm", [False, True])
def test_filters_are_on_the_axis_of_the_features(flax_norm):
    class ChannelsFirst(nn.Module):
        @nn.compact
        def __call__(self, x):
            if flax_norm:
                return nn.relu(nn.BatchNorm(use_running_average=True, axis=1, name="norm")(x))
            return nn.relu(Normalization(batch_norm(feature_axis=1), name="norm")(x, mode="running"))

    x = jax.device_put(np.random.default_rng(0).normal(size=(5, 4, 3, 3)).astype(np.float32))
    variables = initialized(ChannelsFirst(), x)
    variables["params"]["norm"]["bias"] = np.asarray([-50.0, -50.0, 0.0, 0.0])
    margins = jax.jit(lambda variables: filter_margins(ChannelsFirst(), variables, x))(variables)
    np.testing.assert_array_equal(np.asarray(margins["norm"]) < 0, [True, True, False, False])
