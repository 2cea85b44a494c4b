"""The split of the off-diagonal term is that of the library's exact report."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bnjax
from bnjax.derivatives import cross_entropy_head
from bnjax.models import LeNet
from bnjax.normalizers import batch_norm
from bnjax.training import initial_state
from experiments.off_diagonal import _split
from tests.comparison import assert_close


@pytest.fixture(scope="module")
def network() -> Any:
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 12, 1)), jnp.float32)
    model = LeNet(2, norm=batch_norm())
    state = initial_state(model, optax.sgd(0.1), jax.random.key(0), images)
    generator = np.random.default_rng(1)
    # No kink of a ReLU lies at the expansion point.
    params = jax.tree.map(lambda leaf: leaf + 0.1 * generator.normal(size=leaf.shape), state.params)
    params["normalization"] = {name: jnp.asarray(0.5 + 0.1 * generator.normal(size=20)) for name in ("scale", "bias")}
    return model, state._replace(params=params)


@pytest.fixture(scope="module")
def features() -> Any:
    drawn = np.random.default_rng(2).normal(size=(3, 7, 20))
    drawn[..., 4] = 1.5  # A dead feature.
    return jnp.asarray(drawn)


@pytest.mark.parametrize("coordinates", ["authors", "standardized"])
def test_the_squared_shares_add_up_to_1_and_the_dead_feature_has_none(network, features, coordinates):
    shares, survival, alive = _split(*network, features, coordinates)
    assert not np.any(alive[:, 4])
    assert np.array_equal(np.sum(alive, axis=1), [19, 19, 19])
    assert_close(jnp.sum(shares**2, axis=-1)[alive], jnp.ones(3 * 19))
    assert np.all((survival > 0) & (survival < 1))


def test_survival_in_standardized_coordinates_is_that_of_the_blocking_report(network, features):
    model, state = network
    _, survival, _ = _split(model, state, features, "standardized")
    live = np.delete(np.arange(20), 4)
    variables = jax.tree.map(lambda leaf: leaf.astype(float), {"params": state.params})
    bias = variables["params"]["normalization"]["bias"]

    def logits(row):
        # The dead feature stays at what the expansion point makes of it.
        return model.apply(variables, bias.at[live].set(row), method="head")

    params = {name: value[live] for name, value in variables["params"]["normalization"].items()}
    for x, expected in zip(features, survival, strict=True):
        labels = jnp.zeros(len(x), int)
        report = bnjax.blocking(cross_entropy_head(logits), batch_norm(epsilon=0.0), x[:, live], labels, params=params)
        assert_close(report.terms["off_diagonal"].survival, expected)
