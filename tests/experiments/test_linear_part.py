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
    """A symmetric matrix without a diagonal."""
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

    def parts(x, d):
        """Ŷ_linear and Ŷ_none, rows × features."""
        y = standardized(x).values
        linear = jnp.outer(y[:, d], y[:, d]) @ y / (y[:, d] @ y[:, d])
        return linear, y - linear

    def loss(x, constant, d):
        return matrix[d] @ (constant.T @ standardized(x).values[:, d])

    gradient = jax.jit(jax.grad(loss), static_argnums=2)
    for index, norms in enumerate(part_norms(normalizer, matrix, batches)):
        for x, found, reference in zip(batches, norms.gradient, norms.reference, strict=True):
            scale = jnp.broadcast_to(standardized(x).scale, x.shape)
            for d in range(FEATURES):
                constant = parts(x, d)[index]
                expected = jnp.linalg.norm(constant @ matrix[d] / scale[:, d])
                assert_close(reference[d], expected)
                assert_close(found[d], jnp.linalg.norm(gradient(x, constant, d)[:, d]), order=1, scale=float(expected))


def test_nothing_of_the_linear_part_and_all_of_the_rest_gets_through_batch_normalization(matrix, batches):
    linear, none = part_norms(batch_norm(epsilon=EPSILON), matrix, batches)
    assert np.max(linear.ratios()) <= 1e-14
    assert_close(none.ratios(), np.ones(3 * FEATURES), order=1)


def test_the_linear_part_gets_through_as_soon_as_epsilon_counts(matrix, batches):
    """By the factor ε / (σ² + ε), docs/theory.md, equation (15)."""
    linear, _ = part_norms(batch_norm(epsilon=0.5), matrix, batches)
    assert_close(linear.ratios(), (0.5 / (jnp.var(batches, axis=1) + 0.5)).ravel(), order=1)


def test_a_feature_whose_variance_is_not_far_above_epsilon_is_left_out(matrix, batches):
    deviations = jnp.asarray([1.0, 1e-2, 1e-3, 1e-4])
    x = batches / jnp.std(batches, axis=1, keepdims=True) * deviations
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
