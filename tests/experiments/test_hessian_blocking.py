"""What is drawn of the Hessians does not depend on the units of the features."""

import numpy as np
import pytest

from bnjax.normalizers import batch_norm
from experiments.hessian_blocking import SIDES, Config, Side, _maps
from tests.comparison import assert_close
from tests.experiments.common.tiny_network import tiny_network


@pytest.mark.parametrize("side", SIDES)
def test_the_maps_are_in_units_of_each_features_scale(side: Side):
    network, config = tiny_network(), Config(features=2, map_rows=6)
    in_other_units = network._replace(features=network.features * np.asarray([2.0, 0.5]))
    maps, expected = (_maps(config, one, batch_norm(epsilon=0.0), side) for one in (in_other_units, network))
    assert np.abs(expected[f"remainder_{side}"]).max() > 1e-3
    for name, entries in expected.items():
        assert_close(maps[name], entries, order=2, scale=1.0)
