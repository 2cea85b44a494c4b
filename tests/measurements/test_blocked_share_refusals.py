"""What the shares of a gradient can't be taken of is refused, in words that help."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

from bnjax.measurements import blocked_share
from bnjax.models import MLP
from bnjax.normalizers import (
    batch_norm,
    batch_renorm,
    ghost_batch_norm,
    lp_norm,
    noisy_batch_norm,
    post_shifted_batch_norm,
)

LOSS = optax.softmax_cross_entropy_with_integer_labels
MODEL = MLP((5,), norm=batch_norm(), classes=3)


@pytest.fixture(scope="module")
def batch():
    """Return images with their labels."""
    return jax.device_put((np.random.default_rng(1).normal(size=(8, 6)), np.arange(8) % 3))


@pytest.fixture(scope="module")
def variables(batch):
    return jax.jit(MODEL.init)(jax.random.key(0), batch[0])


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

    x = jax.device_put(np.sin(np.arange(8.0)).reshape(2, 4))
    for model, message in ((Shared(), "got norm applied several times"), (Hidden(), r"norm is inside of nn\.scan")):
        with pytest.raises(ValueError, match=message):
            blocked_share(model, jax.jit(model.init)(jax.random.key(0), x), x, loss=jnp.sum)


def test_a_loss_that_is_not_of_one_row_is_refused(variables, batch):
    with pytest.raises(ValueError, match=r"needs to be one scalar, got shapes \[\(\d"):
        blocked_share(MODEL, variables, *batch, loss=lambda outputs, _: outputs)


TWO_AXES: Any = (1, 2)


@pytest.mark.parametrize(
    "norm",
    [nn.LayerNorm(reduction_axes=TWO_AXES, feature_axes=TWO_AXES), nn.BatchNorm(False, axis=TWO_AXES)],
    ids=["layer_norm", "batch_norm"],
)
def test_several_axes_of_features_are_refused(norm):
    model, x = nn.Sequential([norm]), jax.device_put(np.sin(np.arange(8.0)).reshape(4, 2, 1))
    variables = jax.jit(model.init)(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"layers_0 needs one axis of features.*\(2, 1\)"):
        jax.eval_shape(lambda: blocked_share(model, variables, x, loss=jnp.sum))


def test_labels_of_another_number_of_rows_are_named(variables, batch):
    images, labels = batch
    with pytest.raises(ValueError, match=r"^row argument 0 needs one entry for each of the 8 rows, got shape \(5,\)"):
        blocked_share(MODEL, variables, images, labels[:5], loss=LOSS)


class NnxNetwork(nnx.Module):
    def __init__(self):
        self.norm = nnx.BatchNorm(6, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.norm(x)


def running_of_linen(images, labels):
    model = nn.Sequential([nn.Dense(3), nn.BatchNorm(use_running_average=True, name="norm")])
    variables = jax.jit(model.init)(jax.random.key(0), images)
    return lambda: blocked_share(model, variables, images, labels, loss=LOSS)


def running_of_nnx(images, labels):
    model = NnxNetwork()
    model.eval()
    return lambda: blocked_share(model, None, images, labels, loss=LOSS)


def running_of_the_library(images, labels):
    variables = jax.jit(MODEL.init)(jax.random.key(0), images)
    return lambda: blocked_share(MODEL, variables, images, labels, loss=LOSS, apply_kwargs={"mode": "running"})


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("of", [running_of_linen, running_of_nnx, running_of_the_library])
def test_running_statistics_are_refused(batch, of, compiled):
    call = of(*batch)
    with pytest.raises(ValueError, match=r"needs to take the statistics of the batch.*set the model to training"):
        (jax.jit(lambda: call().shares) if compiled else call)()


@pytest.mark.parametrize(
    "norm",
    [lp_norm(p=1), noisy_batch_norm(), ghost_batch_norm(ghost_size=4), post_shifted_batch_norm()],
    ids=lambda norm: norm.name,
)
def test_running_statistics_of_every_normalizer_over_the_batch_are_refused(batch, norm):
    images, labels = batch
    model = MLP((5,), norm=norm, classes=3)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    with pytest.raises(ValueError, match="needs to take the statistics of the batch"):
        blocked_share(model, variables, images, labels, loss=LOSS, apply_kwargs={"mode": "running"})


def test_batch_renormalization_reads_running_statistics_in_training_and_is_measured(batch):
    images, labels = batch
    model = MLP((5,), norm=batch_renorm(), classes=3)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    assert jax.eval_shape(lambda: blocked_share(model, variables, images, labels, loss=LOSS).shares)


def test_statistics_that_are_missing_are_named(batch):
    images, labels = batch
    model = nn.Sequential([nn.Dense(3), nn.BatchNorm(use_running_average=False, name="norm")])
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]
    with pytest.raises(
        ValueError, match=r"layers_1 needs its running statistics, but variables\['batch_stats'\] has none"
    ):
        jax.eval_shape(lambda: blocked_share(model, {"params": params}, images, labels, loss=LOSS))
