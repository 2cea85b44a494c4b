"""Norms and directions in float32 are those that float64 has, up to the ends of its range."""

import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.derivatives.norms import norms, over_largest, tree_norm
from tests.comparison import assert_close

PLAIN = {"one": np.arange(1.0, 4.0), "none": np.zeros((0, 2)), "other": np.asarray(-2.0)}


def of_size(size):
    return {name: jnp.asarray(size * leaf, jnp.float32) for name, leaf in PLAIN.items()}


@pytest.mark.parametrize("size", [2e-38, 1e-30, 1.0, 1e30, 5e37])
def test_norms_and_directions_are_right_at_any_size(size):
    tree = of_size(size)
    assert_close(norms(tree["one"][None])[0] / size, 14**0.5)
    assert_close(tree_norm(tree) / size, 18**0.5)
    unit = over_largest(tree)
    assert_close(unit["one"] / -unit["other"], np.arange(1.0, 4.0) / 2)
    assert 0.99 < jnp.max(unit["one"]) < 4


def test_nothing_has_no_length_and_no_direction():
    nothing = of_size(0.0)
    assert tree_norm(nothing) == 0
    assert np.isnan(over_largest(nothing)["one"]).all()


def test_an_infinite_number_has_neither():
    infinite = of_size(np.inf)
    assert np.isnan(tree_norm(infinite))
    assert np.isnan(over_largest(infinite)["one"]).all()
