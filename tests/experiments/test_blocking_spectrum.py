"""What the spectrum's experiment refuses at once, and where its normalizers with statistics get these from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.normalizers import batch_renorm, frozen_batch_norm
from experiments.blocking_spectrum import Config, _spectrum
from tests.comparison import assert_close
from tests.experiments.common.tiny_network import tiny_network


@pytest.mark.parametrize(
    "normalizer", [batch_renorm(epsilon=0.0), frozen_batch_norm(epsilon=0.0)], ids=lambda n: n.name
)
def test_frozen_and_renormalized_values_are_those_by_the_statistics_of_all_features(normalizer):
    network, batch = tiny_network(), np.arange(4)
    report = _spectrum(Config(features=2, max_order=1), network, normalizer, batch)
    x = network.features
    standardized = (x[batch] - x.mean(axis=0)) / x.std(axis=0)
    y = jnp.asarray(standardized * network.norm_params["scale"] + network.norm_params["bias"])
    assert_close(report.loss, jnp.sum(jax.vmap(network.head)(y, network.labels[batch])))


@pytest.mark.parametrize("option", ["rows", "features"])
def test_what_can_not_be_halved_is_refused_before_any_training(option):
    with pytest.raises(ValueError, match=f"--{option} needs to be an even number, got 5; take 6"):
        dataclasses.replace(Config(), **{option: 5})
