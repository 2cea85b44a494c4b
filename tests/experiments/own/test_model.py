"""A model of the user's own is made from what is typed."""

import jax.numpy as jnp
import pytest

from bnjax.models import MLP
from bnjax.normalizers import layer_norm
from experiments.audit import Config
from experiments.own.model import own_model
from tests.comparison import assert_close


@pytest.mark.usefixtures("folder")
def test_a_smoke_run_takes_a_model_of_any_options():
    config = Config().smoke_sized()
    assert own_model("own_nets:Plain", config.model_options, config.call_options, config.loss)


@pytest.mark.usefixtures("folder")
def test_objects_in_call_options_are_hashable_for_equal_models_compile_once():
    first, second = (own_model("own_nets:Open", "{}", '{"scales": {"low": [1, 2]}}', "squared") for _ in range(2))
    assert hash(first) == hash(second)


def test_a_network_of_the_tables_is_made_by_name():
    model = own_model(
        "experiments.common.networks:network", '{"normalizer": "layer_norm", "hidden": [5]}', "{}", "squared"
    )
    assert model.module == MLP((5,), norm=layer_norm())
    assert_close(model.loss(jnp.ones(2), jnp.zeros(2)), 1.0)
