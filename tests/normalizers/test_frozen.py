import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.normalizers import batch_norm, frozen_batch_norm
from tests.comparison import assert_close
from tests.normalizers.cases import ROWS, compiled, drawn_like, features


def test_init_freezes_the_moments_of_its_features_so_that_there_it_equals_batch_norm():
    x = features()
    params, stats = frozen_batch_norm().init(x)
    assert_close(stats["mean"], np.mean(np.asarray(x), (0, 1, 2)))
    assert_close(stats["variance"], np.var(np.asarray(x), (0, 1, 2)))
    expected, _ = compiled(batch_norm(), *batch_norm().init(x), x)
    assert_close(compiled(frozen_batch_norm(), params, stats, x)[0], expected)


def test_no_call_updates_the_statistics():
    normalizer = frozen_batch_norm()
    params, stats = normalizer.init(features())
    for mode in ("batch", "running"):
        _, after = normalizer.apply(params, stats, features(seed=5), mode=mode)
        assert all(after[entry] is stats[entry] for entry in stats)


def test_both_modes_equal_batch_norm_with_these_running_statistics():
    x = features()
    params, stats = (drawn_like(state) for state in batch_norm().init(x))
    expected, _ = compiled(batch_norm(), params, stats, x, mode="running")
    for mode in ("batch", "running"):
        np.testing.assert_array_equal(compiled(frozen_batch_norm(), params, stats, x, mode=mode)[0], expected)


def test_the_derivative_is_scale_over_deviation():
    x, normalizer = features(ROWS), frozen_batch_norm(epsilon=0.25)
    params, stats = (drawn_like(state) for state in normalizer.init(x))
    jacobian = jax.jit(jax.jacobian(lambda x: normalizer.apply(params, stats, x)[0]))(x)
    slope = np.asarray(params["scale"]) / np.sqrt(np.asarray(stats["variance"]) + 0.25)
    assert_close(jacobian.reshape(x.size, x.size), np.diag(np.tile(slope, len(x))), order=1)


def test_apply_takes_one_row_and_constant_features_in_both_modes_but_init_cannot_freeze_their_moments():
    normalizer = frozen_batch_norm(epsilon=0.0)
    params, stats = normalizer.init(features(ROWS))
    row = jnp.full((1, 4), 0.1)
    for mode in ("batch", "running"):
        assert_close(
            normalizer.apply(params, stats, row, mode=mode)[0], (row - stats["mean"]) / stats["variance"] ** 0.5
        )
    with pytest.raises(ValueError, match=r"at least 2 values .*, got 1: .*; pass more rows"):
        normalizer.init(row)
    with pytest.raises(ValueError, match="zero variance"):
        normalizer.init(jnp.full(ROWS, 0.1))
