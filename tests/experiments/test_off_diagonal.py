"""The split of the off-diagonal term is that of the library's exact report."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnjax
from bnjax.derivatives import cross_entropy_head
from bnjax.models import SplitHead
from bnjax.normalizers import batch_norm
from experiments.common.split_head_networks import off_diagonal_hessian
from experiments.off_diagonal import EPSILONS, PARTS, split
from tests.comparison import assert_close

MODEL = SplitHead(2, norm=batch_norm())


@pytest.fixture(scope="module")
def params() -> Any:
    """Draw parameters at random, so that no kink of a ReLU lies at the expansion point."""
    generator = np.random.default_rng(1)
    shapes: Any = jax.eval_shape(MODEL.init, jax.random.key(0), jnp.ones((2, 20)))["params"]
    drawn = jax.tree.map(lambda leaf: jnp.asarray(0.3 * generator.normal(size=leaf.shape)), shapes)
    drawn["normalization"]["scale"] += 0.5
    return drawn


@pytest.fixture(scope="module")
def features() -> Any:
    drawn = np.random.default_rng(2).normal(size=(3, 7, 20))
    drawn[..., 4] = 1.5  # A dead feature.
    return jnp.asarray(drawn)


def measured(params, features, coordinates):
    return split(off_diagonal_hessian(MODEL, params, coordinates), features, EPSILONS[coordinates])


@pytest.mark.parametrize("coordinates", EPSILONS)
def test_the_squared_shares_add_up_to_1_and_the_dead_feature_has_none(params, features, coordinates):
    shares, survival, alive = measured(params, features, coordinates)
    assert not np.any(alive[:, 4])
    assert np.array_equal(np.sum(alive, axis=1), [19, 19, 19])
    assert_close(jnp.sum(shares**2, axis=-1)[alive], jnp.ones(3 * 19))
    assert np.all((survival > 0) & (survival < 1))


def test_survival_in_standardized_coordinates_is_that_of_the_blocking_report(params, features):
    _, survival, _ = measured(params, features, "standardized")
    live = np.delete(np.arange(20), 4)
    bias = params["normalization"]["bias"]
    apply: Any = MODEL.apply

    def logits(row):
        # The dead feature stays at what the expansion point makes of it.
        return apply({"params": params}, bias.at[live].set(row), method="head")

    of_live = {name: value[live] for name, value in params["normalization"].items()}
    for x, expected in zip(features, survival, strict=True):
        labels = jnp.zeros(len(x), int)
        report = bnjax.blocking(cross_entropy_head(logits), batch_norm(epsilon=0.0), x[:, live], labels, params=of_live)
        assert_close(report.terms["off_diagonal"].survival, expected)


def test_the_part_called_linear_is_that_of_the_projections_on_the_feature(params, features):
    shares, _, alive = measured(params, features, "standardized")
    hessian = np.array(off_diagonal_hessian(MODEL, params, "standardized"))
    x = np.array(features[0])
    standardized = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1)
    for d in np.flatnonzero(alive[0]):
        own = standardized[:, d]
        projected = np.outer(own, own @ standardized / (own @ own))
        expected = np.linalg.norm(projected @ hessian[d]) / np.linalg.norm(standardized @ hessian[d])
        assert shares[0, d, PARTS.index("linear")] == pytest.approx(expected, rel=1e-6)
