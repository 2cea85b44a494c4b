import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnjax.normalizers import layer_norm, rms_norm
from tests.comparison import assert_close
from tests.normalizers.cases import MAPS, ROWS, compiled, drawn_like, features, flax_outputs


@pytest.mark.parametrize("shape", [ROWS, MAPS], ids=["rows", "maps"])
def test_values_equal_flaxs(shape):
    x, normalizer = features(shape), rms_norm(epsilon=1e-3)
    params = normalizer.init(x)[0]
    params["scale"] = drawn_like(params)["scale"]
    module = nn.RMSNorm(epsilon=1e-3, param_dtype=x.dtype)
    expected = flax_outputs(module, {"scale": params["scale"]}, x)
    assert_close(compiled(normalizer, params, {}, x)[0], expected)


def test_centred_rows_are_normalized_as_by_layer_norm():
    x = np.asarray(features())
    x = x - x.mean(-1, keepdims=True)
    state = rms_norm().init(x)
    assert_close(compiled(rms_norm(), *state, x)[0], compiled(layer_norm(), *state, x)[0])


def test_a_constant_row_is_taken_without_epsilon_and_a_row_of_zeros_is_not():
    normalizer = rms_norm(epsilon=0.0)
    constant = jnp.full(ROWS, 0.1)
    assert_close(normalizer.apply(*normalizer.init(constant), constant)[0], jnp.ones(ROWS))
    with pytest.raises(ValueError, match=r"x\[2, 0\]"):
        normalizer.apply(*normalizer.init(constant), constant.at[2].set(0.0))
