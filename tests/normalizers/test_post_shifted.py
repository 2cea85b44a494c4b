from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.models import MLP, ResNet
from bnjax.normalizers import batch_norm, post_shifted_batch_norm
from tests.comparison import assert_close
from tests.normalizers.cases import compiled, drawn_like, features

both_modes = pytest.mark.parametrize("mode", ["batch", "running"])


@both_modes
def test_it_is_batch_norm_plus_the_shift(mode):
    x = features()
    params, stats = (drawn_like(state) for state in batch_norm().init(x))
    y, updated = compiled(post_shifted_batch_norm(shift=0.3), params, stats, x, mode=mode)
    expected, expected_stats = compiled(batch_norm(), params, stats, x, mode=mode)
    assert_close(y, np.asarray(expected) + 0.3)
    assert_close(updated["mean"], expected_stats["mean"])
    without = post_shifted_batch_norm(shift=0.3, affine=False).apply({}, stats, x, mode=mode)[0]
    assert_close(without, batch_norm(affine=False).apply({}, stats, x, mode=mode)[0] + 0.3)


@both_modes
def test_it_is_a_batch_norm_whose_bias_took_up_the_shift(mode):
    x = features()
    params, stats = (drawn_like(state) for state in batch_norm().init(x))
    taken_up = {**params, "bias": params["bias"] + 0.3}
    y, _ = compiled(post_shifted_batch_norm(shift=0.3), params, stats, x, mode=mode)
    assert_close(y, compiled(batch_norm(), taken_up, stats, x, mode=mode)[0])


def test_with_scale_and_bias_decayed_the_output_is_the_shift():
    x, normalizer = features(), post_shifted_batch_norm()
    params, stats = normalizer.init(x)
    decayed = {name: jnp.zeros_like(vector) for name, vector in params.items()}
    np.testing.assert_array_equal(compiled(normalizer, decayed, stats, x)[0], np.full(x.shape, 0.1))


def shifted(variables, by):
    """Return variables with a number added to the bias of every normalizer."""

    def moved(path, leaf):
        of_normalizer = path[-2].key.startswith("Normalization") and path[-1].key == "bias"
        return leaf + by if of_normalizer else leaf

    return {**variables, "params": jax.tree_util.tree_map_with_path(moved, variables["params"])}


@both_modes
@pytest.mark.parametrize("network", [partial(MLP, (5, 4)), partial(ResNet, (1, 1), width=2)], ids=["mlp", "resnet"])
def test_every_network_of_the_one_is_a_network_of_the_other_and_back(network, mode):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4, 4, 1)))
    plain, post_shifted = network(norm=batch_norm()), network(norm=post_shifted_batch_norm(shift=0.3))
    generator = np.random.default_rng(1)
    initial = jax.eval_shape(plain.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda leaf: generator.uniform(0.1, 1.0, leaf.shape), initial)
    apply = partial(jax.jit, static_argnums=0)(
        lambda model, variables: model.apply(variables, images, mode=mode, mutable=["batch_stats"])[0]
    )
    assert_close(apply(post_shifted, shifted(variables, -0.3)), apply(plain, variables))
    assert_close(apply(plain, shifted(variables, 0.3)), apply(post_shifted, variables))
    outputs, others = (np.asarray(apply(network, variables)) for network in (post_shifted, plain))
    assert np.max(np.abs(outputs - others)) > 1e-3
