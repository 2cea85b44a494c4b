import jax.numpy as jnp
import numpy as np
import pytest

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
    assert_close(y, expected + 0.3)
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
