"""What the layers' experiment carries back is what batch normalization's derivative says, feature by feature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.normalizers import batch_norm, layer_norm
from experiments.common.carried_back import carried_back, part_rows
from tests.comparison import assert_close

SHAPES = [(9, 5), (3, 4, 2, 5)]
# From far above the usual epsilon to below it.
DEVIATIONS = np.array([30.0, 1.0, 0.1, 3e-3, 1e-3])


def drawn(shape, dtype=float):
    generator = np.random.default_rng(0)
    features, gradient = generator.normal(size=(2, *shape))
    return jnp.asarray(DEVIATIONS * features, dtype), jnp.asarray(gradient, dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("epsilon", [0.0, 1e-5, 0.3])
def test_each_feature_lets_through_what_theory_says(shape, epsilon):
    features, gradient = drawn(shape)
    measured = carried_back(batch_norm(epsilon=epsilon), features, gradient)
    variance = jnp.var(features, tuple(range(len(shape) - 1)))
    assert_close(measured.variance, variance)
    mean, along, rest = measured.arriving / measured.sent
    assert_close(mean, jnp.zeros(5))
    assert_close(along, epsilon / (variance + epsilon), scale=1.0)
    assert_close(rest, jnp.ones(5))


@pytest.mark.parametrize("epsilon", [0.0, 1e-5])
def test_over_all_features_the_prediction_is_the_survival(epsilon):
    features, gradient = drawn((9, 5))
    rows = part_rows(jax.device_get(carried_back(batch_norm(epsilon=epsilon), features, gradient)), epsilon)
    assert [row["part"] for row in rows] == ["mean", "along", "rest"]
    for row in rows:
        assert_close(row["survival"], row["predicted"], scale=1.0)
    assert (rows[1]["survival"] > 0.5) == (epsilon > 0)  # The feature of the smallest variance weighs most.
    assert_close(sum(row["share"] for row in rows), 1.0)
    assert all(row["blocked_share"] == rows[0]["share"] + rows[1]["share"] for row in rows)


def test_single_precision_leaves_more_of_the_mean_but_only_rounding():
    features, gradient = drawn((64, 5), jnp.float32)
    mean, *_ = part_rows(jax.device_get(carried_back(batch_norm(), features, gradient)), 1e-5)
    assert 1e-9 < mean["survival"] < 1e-5


def test_dead_features_are_counted_and_left_out_without_epsilon_only():
    features, gradient = drawn((9, 5))
    dead = features.at[:, 1].set(0.1)
    alone = jnp.delete(features, 1, axis=1), jnp.delete(gradient, 1, axis=1)
    rows = part_rows(jax.device_get(carried_back(batch_norm(epsilon=0.0), dead, gradient)), 0.0)
    without = part_rows(jax.device_get(carried_back(batch_norm(epsilon=0.0), *alone)), 0.0)
    for row, expected in zip(rows, without, strict=True):
        assert row["dead"] == 1
        assert_close(row["share"], expected["share"])
        assert_close(row["survival"], expected["survival"], scale=1.0)
    mean, *_ = part_rows(jax.device_get(carried_back(batch_norm(), dead, gradient)), 1e-5)
    assert mean["dead"] == 1
    assert not np.isclose(mean["share"], without[0]["share"])


def test_a_part_of_which_there_is_nothing_has_no_survival():
    features, _ = drawn((9, 5))
    measured = carried_back(batch_norm(epsilon=0.0), features, jnp.zeros((9, 5)))
    assert [row["survival"] for row in part_rows(jax.device_get(measured), 0.0)] == [None] * 3


def test_layer_normalization_lets_the_mean_of_each_feature_through():
    features, gradient = drawn((9, 5))
    mean, *_ = carried_back(layer_norm(epsilon=0.0), features, gradient).arriving
    assert jnp.all(mean > 1e-3)
