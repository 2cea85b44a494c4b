import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from bnjax.normalizers import batch_norm, layer_norm
from tests.comparison import assert_close
from tests.normalizers.cases import MAPS, ROWS, compiled, drawn_like, features, flax_outputs


@pytest.mark.parametrize("shape", [ROWS, MAPS], ids=["rows", "maps"])
def test_values_equal_flaxs(shape):
    x, normalizer = features(shape), layer_norm(epsilon=1e-3)
    params = drawn_like(normalizer.init(x)[0])
    module = nn.LayerNorm(epsilon=1e-3, use_fast_variance=False, param_dtype=x.dtype)
    assert_close(compiled(normalizer, params, {}, x)[0], flax_outputs(module, params, x))


@settings(max_examples=6)
@given(st.integers(2, 6), st.integers(2, 6))
def test_it_is_batch_norm_of_the_transpose_for_any_shape(rows, width):
    x = np.asarray(features((rows, width)))
    layer, batch = layer_norm(affine=False), batch_norm(affine=False)
    assert_close(compiled(layer, {}, {}, x)[0], np.asarray(compiled(batch, *batch.init(x.T), x.T)[0]).T, scale=10)


def test_a_single_feature_is_refused():
    normalizer = layer_norm()
    with pytest.raises(ValueError, match=r"at least 2 values for each row and position, got 1: .*at least 2 features"):
        normalizer.apply(*normalizer.init(features((6, 1))), features((6, 1)))
