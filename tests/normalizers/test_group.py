import numpy as np
import pytest
from flax import linen as nn

from bnjax.normalizers import group_norm, instance_norm, layer_norm
from tests.comparison import assert_close
from tests.normalizers.cases import MAPS, ROWS, compiled, drawn_like, features, flax_outputs

both_shapes = pytest.mark.parametrize("shape", [ROWS, MAPS], ids=["rows", "maps"])


@both_shapes
@pytest.mark.parametrize("groups", [1, 2])
def test_values_equal_flaxs(shape, groups):
    x, normalizer = features(shape), group_norm(groups=groups, epsilon=1e-3)
    params = drawn_like(normalizer.init(x)[0])
    module = nn.GroupNorm(groups, epsilon=1e-3, use_fast_variance=False, param_dtype=x.dtype)
    assert_close(compiled(normalizer, params, {}, x)[0], flax_outputs(module, params, x))


def test_one_group_standardizes_the_whole_row():
    x, normalizer = features(), group_norm(groups=1, epsilon=0.25, affine=False)
    row = np.asarray(x).reshape(len(x), -1)
    expected = (row - row.mean(1, keepdims=True)) / (row.var(1, keepdims=True) + 0.25) ** 0.5
    assert_close(compiled(normalizer, {}, {}, x)[0], expected.reshape(x.shape))


def test_one_group_of_a_row_without_positions_is_layer_norm():
    x = features(ROWS)
    state = layer_norm().init(x)
    assert_close(compiled(group_norm(groups=1), *state, x)[0], compiled(layer_norm(), *state, x)[0])


def test_a_group_for_each_feature_is_instance_norm():
    x = features()
    state = instance_norm().init(x)
    assert_close(compiled(group_norm(groups=4), *state, x)[0], compiled(instance_norm(), *state, x)[0])


def test_groups_that_do_not_divide_the_features_are_refused():
    normalizer = group_norm(groups=3)
    with pytest.raises(ValueError, match="features that groups=3 divides, got 4; choose another"):
        normalizer.apply(*normalizer.init(features()), features())


def test_groups_of_one_value_are_refused():
    normalizer = group_norm(groups=4)
    with pytest.raises(ValueError, match=r"at least 2 values for each row and group .*, got 1: .*fewer groups"):
        normalizer.apply(*normalizer.init(features(ROWS)), features(ROWS))


def test_groups_below_one_are_refused():
    with pytest.raises(ValueError, match="groups >= 1, got 0"):
        group_norm(groups=0)
