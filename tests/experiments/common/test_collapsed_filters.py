"""Collapsed filters are counted on all training images."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnjax.data import digits
from bnjax.measurements import filter_margins
from bnjax.models import MLP
from bnjax.normalizers import batch_norm
from bnjax.training import initial_state
from experiments.common.collapsed_filters import collapsed_by_layer, collapsed_share, filters, histograms


@pytest.fixture(scope="module")
def network():
    model = MLP(norm=batch_norm())
    images = jnp.asarray(digits(train=False).images[:70])
    state = initial_state(model, optax.sgd(0.1), jax.random.key(0), images)
    bias = jnp.where(jnp.arange(64) % 4 == 0, -30.0, 0.0)
    params = {**state.params, "Normalization_0": {**state.params["Normalization_0"], "bias": bias}}
    return model, state._replace(params=params), images


def test_margins_are_those_of_all_images_at_running_statistics(network):
    model, state, images = network
    variables = state.variables
    whole = filter_margins(model, variables, images, mode="running")
    found = filters(model, state, images)
    assert list(found) == list(whole)
    for name, margin in whole.items():
        np.testing.assert_allclose(found[name]["margin"], margin, rtol=1e-5)
        np.testing.assert_array_equal(found[name]["scale"], state.params[name]["scale"])


def test_the_share_is_that_of_all_filters_and_the_histograms_hold_each_once(network):
    found = filters(*network)
    layers = collapsed_by_layer(found)
    assert layers[0]["collapsed"] == sum(margin < 0 for margin in found["Normalization_0"]["margin"]) >= 16
    assert collapsed_share(layers) == sum(row["collapsed"] for row in layers) / sum(row["filters"] for row in layers)
    rows = histograms(found)
    for quantity in ("margin", "scale"):
        assert sum(row["share"] for row in rows if row["quantity"] == quantity) == pytest.approx(1)
    lowest = min((row for row in rows if row["quantity"] == "margin"), key=lambda row: row["at"])
    assert lowest["share"] >= 16 / sum(row["filters"] for row in layers)
