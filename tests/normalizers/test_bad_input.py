"""What no normalizer takes: the message says what was required, what came and what to do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.normalizers import batch_norm, ghost_batch_norm, group_norm, post_shifted_batch_norm
from tests.normalizers.cases import (
    KEY,
    MAPS,
    NORMALIZERS,
    OVER_BATCH,
    OVER_ROW,
    ROWS,
    UNCENTRED,
    WITH_EPSILON,
    compiled,
    features,
    outputs,
)

every = pytest.mark.parametrize("name", NORMALIZERS)
over_batch = pytest.mark.parametrize("name", OVER_BATCH)


def refused_everywhere(normalizer, x, message, error: type[Exception] = ValueError):
    """Assert that `check`, `init` and `apply` raise in both modes."""
    state = normalizer.init(features())
    for call in (
        lambda: normalizer.check(x),
        lambda: normalizer.init(x),
        lambda: normalizer.apply(*state, x, key=KEY),
        lambda: normalizer.apply(*state, x, key=KEY, mode="running"),
    ):
        with pytest.raises(error, match=message):
            call()


def refused_as_batch(normalizer, x, message):
    """Assert that `check` and `apply` raise in batch mode."""
    state = normalizer.init(features(x.shape))
    with pytest.raises(ValueError, match=message):
        normalizer.check(x)
    with pytest.raises(ValueError, match=message):
        normalizer.apply(*state, x, key=KEY)


@every
def test_features_without_rows_are_refused(name):
    message = r"needs features of shape \(rows, \.\.\., features\), got shape \(4,\)"
    refused_everywhere(NORMALIZERS[name](), jnp.ones(4), message)


@pytest.mark.usefixtures("signatures_are_not_checked")
@pytest.mark.parametrize("number", [True, 1.0, "1"])
@every
def test_a_feature_axis_that_is_no_integer_is_refused(name, number):
    with pytest.raises(TypeError, match="needs an integer feature_axis, got"):
        NORMALIZERS[name](feature_axis=number)


@pytest.mark.usefixtures("signatures_are_not_checked")
def test_integers_of_numpy_are_integers():
    two: Any = np.int64(2)
    assert group_norm(groups=two) is group_norm(groups=2)
    assert ghost_batch_norm(ghost_size=two, feature_axis=two) is ghost_batch_norm(ghost_size=2, feature_axis=2)
    with pytest.raises(TypeError, match="needs an integer ghost_size, got True"):
        ghost_batch_norm(ghost_size=True)


@pytest.mark.parametrize("axis", [0, 4, -4])
@every
def test_a_feature_axis_that_is_the_rows_or_not_there_is_refused(name, axis):
    message = (
        rf"has feature_axis={axis}, but x of shape \(6, 3, 2, 4\) has its rows on axis 0 and features on .* 1 to 3"
    )
    normalizer = NORMALIZERS[name](feature_axis=axis)
    for call in (normalizer.init, normalizer.check, lambda x: normalizer.apply({}, {}, x)):
        with pytest.raises(ValueError, match=message):
            call(features())


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.bool_, jnp.complex64], ids=lambda dtype: dtype.__name__)
@every
def test_features_that_are_not_real_floating_point_numbers_are_refused(name, dtype):
    message = rf"needs real floating-point features, got dtype {jnp.dtype(dtype)}; convert"
    refused_everywhere(NORMALIZERS[name](), jnp.ones(MAPS, dtype), message, TypeError)


@pytest.mark.parametrize("shape", [(0, 3, 2, 4), (6, 0, 2, 4), (6, 3, 2, 0)], ids=str)
@every
def test_an_empty_batch_is_refused(name, shape):
    refused_everywhere(NORMALIZERS[name](), jnp.ones(shape), r"needs at least one row and one feature, got shape")


@pytest.mark.parametrize(
    ("name", "value"), [*((name, np.nan) for name in NORMALIZERS), ("batch", np.inf), ("layer", -np.inf)]
)
def test_a_feature_that_is_not_finite_is_refused_and_pointed_at(name, value):
    x = features().at[4, 2, 1, 3].set(value)
    message = rf"needs finite features, got {value} at x\[4, 2, 1, 3\]; look for it upstream"
    refused_everywhere(NORMALIZERS[name](), x, message)


@over_batch
def test_a_single_row_is_refused_in_batch_mode(name):
    factory = NORMALIZERS[name]
    normalizer = factory(ghost_size=1) if name == "ghost" else factory()
    message = "at least 2 values for each feature in the batch, got 1: .*; pass more rows, or use mode='running'"
    refused_as_batch(normalizer, jnp.ones((1, 4)), message)


# The mean of six times 0.1 rounds in float64, of a thousand in float32.
CONSTANTS = [
    pytest.param(shape, dtype, id=f"{shape}-{dtype.__name__}")
    for shape, dtype in [(ROWS, jnp.float16), (ROWS, jnp.float64), ((1000, 4), jnp.float32)]
]


@pytest.mark.parametrize(("shape", "dtype"), CONSTANTS)
@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_one_constant_feature_is_refused_without_epsilon(shape, dtype, constant):
    x = features(shape, dtype=dtype).at[:, 2].set(constant)
    message = r"needs features that vary, but the group of x\[0, 2\] has zero variance to rounding; drop .* epsilon > 0"
    refused_as_batch(batch_norm(epsilon=0.0), x, message)
    batch_norm().check(x)


# The maximum's tie is found before its missing spread.
WITHOUT_SPREAD = "zero variance to rounding|the maximum has no derivative"


@pytest.mark.parametrize("name", [*OVER_BATCH, *OVER_ROW])
def test_groups_of_zeros_are_refused_without_epsilon_by_every_normalizer(name):
    refused_as_batch(NORMALIZERS[name](epsilon=0.0), jnp.zeros(MAPS), WITHOUT_SPREAD)


@pytest.mark.parametrize("name", [*OVER_BATCH, *OVER_ROW])
def test_constant_groups_are_refused_without_epsilon_by_all_that_centre_and_taken_by_the_others(name):
    x, normalizer = jnp.full(MAPS, 0.1), NORMALIZERS[name](epsilon=0.0)
    if name in UNCENTRED:
        assert jnp.isfinite(outputs(normalizer, x)).all()
    else:
        refused_as_batch(normalizer, x, WITHOUT_SPREAD)


@pytest.mark.parametrize("name", OVER_ROW)
def test_rows_without_spread_are_refused_without_epsilon_also_in_running_mode(name):
    normalizer, x = NORMALIZERS[name](epsilon=0.0), jnp.zeros(MAPS)
    with pytest.raises(ValueError, match="zero variance"):
        normalizer.apply(*normalizer.init(x), x, mode="running")


@pytest.mark.parametrize(("dtype", "center"), [(jnp.float16, 1.0), (jnp.float64, 1e15)], ids=["float16", "float64"])
def test_features_that_vary_in_their_last_digit_are_taken_without_epsilon(dtype, center):
    step = float(jnp.finfo(dtype).eps) * center
    x = jnp.asarray(center + step * (np.arange(24) % 3).reshape(ROWS), dtype)
    y, _ = batch_norm(epsilon=0.0).apply(*batch_norm(epsilon=0.0).init(x), x)
    assert jnp.isfinite(y).all()


@pytest.mark.parametrize("epsilon", [-1e-5, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", WITH_EPSILON)
def test_an_epsilon_below_zero_or_not_finite_is_refused(name, epsilon):
    with pytest.raises(ValueError, match=f"norm needs a finite epsilon >= 0, got {epsilon}"):
        WITH_EPSILON[name](epsilon=epsilon)


@pytest.mark.parametrize("momentum", [-0.1, 1.5, float("nan")])
@over_batch
def test_a_momentum_that_leads_out_of_what_it_weighs_is_refused(name, momentum):
    message = rf"norm needs a momentum from 0 \(the last batch's statistics\) to 1, got {momentum}"
    with pytest.raises(ValueError, match=message):
        OVER_BATCH[name](momentum=momentum)


@pytest.mark.parametrize("number", ["0.9", None, True])
def test_an_option_that_is_no_number_is_refused_where_one_is_declared(number):
    with pytest.raises(TypeError, match=f"batch_norm needs a number for momentum, got {number!r}"):
        batch_norm(momentum=number)


def test_a_shift_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="needs a finite shift, got nan"):
        post_shifted_batch_norm(shift=float("nan"))


@every
def test_an_unknown_mode_is_refused(name):
    normalizer = NORMALIZERS[name]()
    with pytest.raises(ValueError, match="needs mode='batch' or mode='running', got 'train'"):
        normalizer.apply(*normalizer.init(features()), features(), mode="train")


@pytest.mark.parametrize("mode", ["batch", "running"])
@pytest.mark.parametrize("length", [1, 5])
@every
def test_parameters_and_statistics_of_another_length_are_refused(name, length, mode):
    normalizer = NORMALIZERS[name](affine=True)
    params, stats = normalizer.init(features())
    for state in (params, stats):
        for entry in state:
            kept, state[entry] = state[entry], jnp.ones(length)
            message = (
                rf"need an entry '{entry}' with one number for each of the 4 features of x, got shape \({length},\)"
            )
            with pytest.raises(ValueError, match=message):
                normalizer.apply(params, stats, features(), mode=mode, key=KEY)
            state[entry] = kept


@every
def test_missing_parameters_are_refused(name):
    normalizer = NORMALIZERS[name](affine=True)
    params, stats = normalizer.init(features())
    del params["bias"]
    message = r"need an entry 'bias' .* got only the entries \['scale'\]; call init\(x\)"
    with pytest.raises(ValueError, match=message):
        normalizer.apply(params, stats, features(), key=KEY)


def test_values_are_not_looked_at_while_tracing_but_shapes_are():
    normalizer = batch_norm(epsilon=0.0)
    state = normalizer.init(features(ROWS))
    y, _ = compiled(normalizer, *state, features(ROWS).at[0, 1].set(np.nan))
    assert jnp.isnan(y[:, 1]).all()
    assert jnp.isfinite(y[:, 0]).all()
    y, _ = compiled(normalizer, *state, jnp.zeros(ROWS))
    assert jnp.isnan(y).all()
    with pytest.raises(ValueError, match="at least 2 values"):
        compiled(normalizer, *state, jnp.ones((1, 4)))
    with pytest.raises(TypeError, match="real floating-point"):
        compiled(normalizer, *state, jnp.ones(ROWS, int))


@every
def test_constants_of_a_compiled_function_are_looked_at_without_being_traced(name):
    x, normalizer = features(), NORMALIZERS[name]() if name == "identity" else NORMALIZERS[name](epsilon=0.0)
    params, stats = normalizer.init(x)

    def shape_of_outputs(constant):
        return jax.eval_shape(lambda params: normalizer.apply(params, stats, constant, key=KEY)[0], params).shape

    bad = x.at[0].set(np.nan)
    assert shape_of_outputs(x) == x.shape
    with pytest.raises(ValueError, match="finite features"):
        shape_of_outputs(bad)
