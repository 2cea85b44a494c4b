"""What gets back of the parts of the off-diagonal term is what autodiff makes of the paper's loss, written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.normalizers import batch_norm
from experiments.common.networks import NORMALIZER_FACTORIES, normalizer_at
from experiments.linear_part import EPSILON, measured_features, part_norms
from tests.comparison import assert_close

ROWS, FEATURES = 6, 4


@pytest.fixture(scope="module")
def matrix() -> jax.Array:
    """Return a symmetric matrix without a diagonal."""
    drawn = np.random.default_rng(0).normal(size=(FEATURES, FEATURES))
    return jnp.asarray(drawn + drawn.T - 2 * np.diag(np.diag(drawn)))


@pytest.fixture(scope="module")
def batches() -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=(3, ROWS, FEATURES)))


@pytest.mark.parametrize("name", NORMALIZER_FACTORIES)
def test_the_norms_are_those_of_the_loss_written_out_feature_by_feature(name, matrix, batches):
    normalizer = normalizer_at(name, epsilon=EPSILON)

    def standardized(x):
        return normalizer.standardize(normalizer.init(x)[1], x, mode="batch", key=None)[0]

    def loss(x, constant, d):
        return matrix[d] @ (constant.T @ standardized(x).values[:, d])

    @jax.jit
    def written_out(x, d):
        """Return the norms of what arrives of Ŷ_linear and Ŷ_none at feature d, and those they would have whole."""
        y, scale = standardized(x)
        linear = jnp.outer(y[:, d], y[:, d]) @ y / (y[:, d] @ y[:, d])
        arriving = [jax.grad(loss)(x, constant, d)[:, d] for constant in (linear, y - linear)]
        whole = [constant @ matrix[d] / jnp.broadcast_to(scale, x.shape)[:, d] for constant in (linear, y - linear)]
        return jnp.linalg.norm(jnp.asarray([arriving, whole]), axis=-1)

    measured = part_norms(normalizer, matrix, batches)
    for batch, x in enumerate(batches):
        for d in range(FEATURES):
            for norms, arrived, whole in zip(measured, *np.asarray(written_out(x, d)), strict=True):
                assert_close(norms.reference[batch, d], whole)
                assert_close(norms.gradient[batch, d], arrived, order=1, scale=float(whole))


def test_nothing_of_the_linear_part_and_all_of_the_rest_gets_through_batch_normalization(matrix, batches):
    linear, none = part_norms(batch_norm(epsilon=EPSILON), matrix, batches)
    assert np.max(linear.ratios()) <= 1e-14
    assert_close(none.ratios(), np.ones(3 * FEATURES), order=1)


def test_the_linear_part_gets_through_as_soon_as_epsilon_counts(matrix, batches):
    """By the factor ε / (σ² + ε), docs/theory.md, equation (15)."""
    linear, _ = part_norms(batch_norm(epsilon=0.5), matrix, batches)
    assert_close(linear.ratios(), (0.5 / (np.var(np.asarray(batches), axis=1) + 0.5)).ravel(), order=1)


def test_a_feature_whose_variance_is_not_far_above_epsilon_is_left_out(matrix, batches):
    deviations = np.asarray([1.0, 1e-2, 1e-3, 1e-4])
    x = jnp.asarray(batches / np.std(np.asarray(batches), axis=1, keepdims=True) * deviations)
    linear, none = part_norms(batch_norm(epsilon=EPSILON), matrix, x)
    for norms in (linear, none):
        assert np.array_equal(norms.reference > 0, np.tile([True, True, True, False], (3, 1)))
    assert np.max(linear.ratios()) <= 1e-13
    assert np.array_equal(measured_features(x[0]), [True, True, True, False])


def test_a_dead_feature_is_left_out(matrix, batches):
    linear, none = part_norms(batch_norm(epsilon=EPSILON), matrix, batches.at[..., 2].set(1.5))
    for norms in (linear, none):
        assert np.all(norms.reference[:, 2] == 0)
        assert len(norms.ratios()) == 3 * (FEATURES - 1)
