import pytest
from flax import linen as nn

from bnjax.normalizers import batch_norm, instance_norm
from tests.comparison import assert_close
from tests.normalizers.cases import ROWS, compiled, drawn_like, features, flax_outputs


def test_values_equal_flaxs():
    x, normalizer = features(), instance_norm(epsilon=1e-3)
    params = drawn_like(normalizer.init(x)[0])
    module = nn.InstanceNorm(epsilon=1e-3, use_fast_variance=False, param_dtype=x.dtype)
    assert_close(compiled(normalizer, params, {}, x)[0], flax_outputs(module, params, x))


def test_a_batch_of_one_row_equals_batch_norm():
    x = features()[:1]
    params, stats = batch_norm().init(x)
    assert_close(compiled(instance_norm(), params, {}, x)[0], compiled(batch_norm(), params, stats, x)[0])


def test_features_without_positions_are_refused():
    normalizer = instance_norm()
    with pytest.raises(ValueError, match=r"at least 2 values .*positions.*, got 1: .*pass x of shape"):
        normalizer.apply(*normalizer.init(features(ROWS)), features(ROWS))
