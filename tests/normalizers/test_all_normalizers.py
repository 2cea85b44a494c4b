"""Claims that all normalizers share."""

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax import normalizers
from bnjax.normalizers import batch_norm, group_norm, lp_norm, noisy_batch_norm
from bnjax.normalizers.normalizer import memoized
from tests.comparison import assert_close
from tests.normalizers.cases import (
    GROUPS,
    KEY,
    MAPS,
    NORMALIZERS,
    OVER_BATCH,
    OVER_ROW,
    ROWS,
    UNCENTRED,
    WITH_EPSILON,
    compiled,
    drawn_like,
    features,
    outputs,
)

every = pytest.mark.parametrize("name", NORMALIZERS)
with_shape = pytest.mark.parametrize(
    ("name", "shape"),
    [
        pytest.param(name, shape, id=f"{name}-{kind}")
        for name in NORMALIZERS
        for kind, shape in [("rows", ROWS), ("maps", MAPS)]
        if (name, kind) != ("instance", "rows")
    ],
)


def test_every_normalizer_of_the_library_is_among_them():
    public = {name for name in normalizers.__all__ if name.islower()} - {"build_normalizer"}
    assert {getattr(factory, "func", factory).__name__ for factory in NORMALIZERS.values()} == public


@every
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64], ids=lambda d: d.__name__)
def test_the_output_has_the_dtype_of_the_input_and_the_state_at_least_float32(name, dtype):
    x, normalizer = features(dtype=dtype), NORMALIZERS[name]()
    state_dtype = jnp.promote_types(dtype, jnp.float32)
    params, stats = jax.eval_shape(normalizer.init, x)
    y, updated = jax.eval_shape(partial(normalizer.apply, key=KEY), params, stats, x)
    assert (y.dtype, y.shape) == (dtype, x.shape)
    assert {vector.dtype for state in (params, stats, updated) for vector in state.values()} <= {state_dtype}


@pytest.mark.parametrize("name", sorted(NORMALIZERS.keys() - {"noisy"}))  # Its draws depend on the dtype.
def test_half_precision_is_rounded_once_at_the_output(name):
    x, normalizer = features(dtype=jnp.float16), NORMALIZERS[name]()
    params, stats = normalizer.init(x)
    exact_params, exact_stats, exact_x = jax.tree.map(lambda array: np.asarray(array, float), (params, stats, x))
    exact, _ = compiled(normalizer, exact_params, exact_stats, exact_x)
    assert_close(compiled(normalizer, params, stats, x)[0], exact, scale=0.01 * float(np.max(abs(exact))))


@with_shape
def test_compiled_equals_eager(name, shape):
    x, normalizer = features(shape), NORMALIZERS[name]()
    params, stats = (drawn_like(state) for state in normalizer.init(x))
    y, updated = normalizer.apply(params, stats, x, key=KEY)
    compiled_y, compiled_updated = compiled(normalizer, params, stats, x)
    assert_close(compiled_y, y)
    assert updated.keys() == compiled_updated.keys() == stats.keys()
    for entry in updated:
        assert_close(compiled_updated[entry], updated[entry])


@with_shape
def test_apply_gives_the_same_again_and_leaves_its_arguments_alone(name, shape):
    x, normalizer = features(shape), NORMALIZERS[name]()
    params, stats = normalizer.init(x)
    before = dict(params), dict(stats)
    first, _ = normalizer.apply(params, stats, x, key=KEY)
    second, _ = normalizer.apply(params, stats, x, key=KEY)
    np.testing.assert_array_equal(first, second)
    for state, copy in zip((params, stats), before, strict=True):
        assert state.keys() == copy.keys()
        assert all(state[entry] is copy[entry] for entry in copy)


@with_shape
def test_init_gives_one_of_each_parameter_and_statistic_a_feature(name, shape):
    params, stats = NORMALIZERS[name](affine=True).init(features(shape))
    assert {vector.shape for state in (params, stats) for vector in state.values()} == {(4,)}
    assert params.keys() == {"scale", "bias"}
    assert_close(params["scale"], np.ones(4))
    assert_close(params["bias"], np.zeros(4))
    assert NORMALIZERS[name](affine=False).init(features(shape))[0] == {}


@with_shape
def test_apply_is_the_affine_phase_after_the_standardization(name, shape):
    x, normalizer = features(shape), NORMALIZERS[name](affine=True)
    params, stats = (drawn_like(state) for state in normalizer.init(x))
    (values, scale), _ = normalizer.standardize(stats, x, mode="batch", key=KEY)
    slope, offset = normalizer.affine(params, x, mode="batch", key=KEY)
    assert_close(compiled(normalizer, params, stats, x)[0], slope * values + offset)
    assert values.shape == shape
    assert jnp.broadcast_shapes(scale.shape, shape) == shape


@pytest.mark.parametrize("name", sorted(NORMALIZERS.keys() - {"noisy"}))
def test_scale_and_bias_act_on_each_feature_after_everything_else(name):
    x = features()
    plain, learned = NORMALIZERS[name](affine=False), NORMALIZERS[name](affine=True)
    initial, stats = learned.init(x)
    params = drawn_like(initial)
    shift = 0.1 if name == "post_shifted" else 0.0
    expected = params["scale"] * (plain.apply({}, stats, x)[0] - shift) + params["bias"] + shift
    assert_close(learned.apply(params, stats, x)[0], expected)


@pytest.mark.parametrize(("name", "axis"), [*((name, 1) for name in NORMALIZERS), ("batch", -2), ("group", -2)])
def test_moving_the_feature_axis_commutes_with_the_normalizer(name, axis):
    silent = {"mean_noise": 0, "deviation_noise": 1, "mean_spread": 0, "deviation_spread": 0} if name == "noisy" else {}
    last = NORMALIZERS[name](**silent)
    moved = NORMALIZERS[name](feature_axis=axis, **silent)
    x = features()
    params, stats = (drawn_like(state) for state in last.init(x))
    y, updated = compiled(last, params, stats, x)
    moved_y, moved_updated = compiled(moved, params, stats, jnp.moveaxis(x, -1, axis))
    assert_close(moved_y, jnp.moveaxis(y, -1, axis))
    for entry in updated:
        assert_close(moved_updated[entry], updated[entry])


@pytest.mark.parametrize("name", ["batch", "linf"])
def test_running_statistics_belong_to_the_feature_axis(name):
    x = features()
    params, stats = (drawn_like(state) for state in NORMALIZERS[name]().init(x))
    y, _ = compiled(NORMALIZERS[name](), params, stats, x, mode="running")
    moved, _ = compiled(NORMALIZERS[name](feature_axis=1), params, stats, jnp.moveaxis(x, -1, 1), mode="running")
    assert_close(moved, jnp.moveaxis(y, -1, 1))


@pytest.mark.parametrize("name", WITH_EPSILON)
def test_epsilon_zero_gives_finite_values_and_derivatives(name):
    x, normalizer = features(), WITH_EPSILON[name](epsilon=0.0)
    params, stats = normalizer.init(x)

    @jax.jit
    @jax.value_and_grad
    def loss(x):
        return jnp.sum(normalizer.apply(params, stats, x, key=KEY)[0] ** 3)

    value, gradient = map(np.asarray, loss(x))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert abs(gradient).max() > 0


@pytest.mark.parametrize("name", sorted(NORMALIZERS.keys() - {"ghost", "noisy"}))
def test_the_rows_of_a_permuted_batch_are_permuted(name):
    x, order = features(), np.array([3, 1, 5, 0, 2, 4])
    normalizer = NORMALIZERS[name]()
    params, stats = normalizer.init(x)
    assert_close(compiled(normalizer, params, stats, x[order])[0], compiled(normalizer, params, stats, x)[0][order])


@pytest.mark.parametrize("name", OVER_BATCH)
def test_running_mode_gives_a_row_alone_what_it_gets_in_a_batch_of_these_statistics_and_keeps_them(name):
    normalizer = OVER_BATCH[name](epsilon=0.25, momentum=0.0)
    half = features()[:3]
    x = jnp.concatenate([half, half])  # Ghost batches that have the statistics of all.
    params, initial = (drawn_like(state) for state in normalizer.init(x))
    _, stats = normalizer.standardize(initial, x, mode="batch", key=KEY)
    (values, _), _ = normalizer.standardize(stats, x, mode="batch", key=KEY)
    slope, offset = normalizer.affine(params, x[:1], mode="running", key=None)
    y, after = normalizer.apply(params, stats, x[:1], mode="running")
    assert_close(y, slope * values[:1] + offset)
    assert stats.keys() == initial.keys() == after.keys()
    assert all(after[entry] is stats[entry] for entry in stats)


@pytest.mark.parametrize("name", [*OVER_BATCH, "frozen"])
def test_running_mode_takes_a_single_row_of_constant_features(name):
    normalizer = NORMALIZERS[name](epsilon=0.0)
    params, stats = normalizer.init(features(ROWS))
    row = jnp.full((1, 4), 0.1)
    many = normalizer.apply(params, stats, jnp.broadcast_to(row, ROWS), mode="running")[0]
    assert_close(normalizer.apply(params, stats, row, mode="running")[0], many[:1])


@pytest.mark.parametrize("name", [*OVER_ROW, "identity"])
def test_without_statistics_both_modes_are_the_same_and_rows_do_not_meet(name):
    x, normalizer = features(), NORMALIZERS[name]()
    params, stats = normalizer.init(x)
    assert stats == {}
    y, _ = normalizer.apply(params, {}, x)
    np.testing.assert_array_equal(y, normalizer.apply(params, {}, x, mode="running")[0])
    assert_close(normalizer.apply(params, {}, x[:1])[0], y[:1])


# Batch renormalization sees both, by its running statistics.
@pytest.mark.parametrize("name", sorted({*OVER_BATCH, *OVER_ROW} - {"renorm"}))
def test_without_epsilon_a_groups_factor_is_seen_by_none_and_its_shift_by_the_uncentred_alone(name):
    x, normalizer = np.asarray(features()), NORMALIZERS[name](epsilon=0.0)
    generator, groups = np.random.default_rng(3), np.asarray(GROUPS[name](MAPS))
    factor, shift = (drawn[groups] for drawn in generator.uniform(0.5, 2.0, (2, x.size)))
    expected = np.asarray(outputs(normalizer, x))
    assert_close(outputs(normalizer, factor * x), expected)
    if name in UNCENTRED:
        assert np.max(abs(np.asarray(outputs(normalizer, x + shift)) - expected)) > 0.1
    else:
        assert_close(outputs(normalizer, x + shift), expected)


@pytest.mark.parametrize("name", NORMALIZERS)
def test_equal_arguments_give_the_same_normalizer(name):
    factory = NORMALIZERS[name]
    assert factory() is factory()
    assert factory(affine=True, feature_axis=1) is factory(feature_axis=1, affine=True)
    assert factory(feature_axis=1) is not factory()


def test_a_default_spelled_out_and_an_equal_number_give_the_same_normalizer():
    assert batch_norm() is batch_norm(epsilon=1e-5, momentum=0.9)
    assert batch_norm(epsilon=0) is batch_norm(epsilon=0.0)
    assert lp_norm(p=2) is lp_norm(p=2.0)


def test_an_equal_number_of_numpys_or_jaxs_gives_the_same_normalizer():
    factory: Any = batch_norm
    assert factory(epsilon=np.float32(0.25), affine=np.bool_(True)) is factory(epsilon=jnp.float32(0.25))


@pytest.mark.parametrize("first", [{}, {"epsilon": 1e-5}, {"epsilon": np.float64(1e-5), "momentum": 0.9}])
def test_a_normalizer_is_written_alike_whoever_asked_for_it_first(first):
    def made(*, epsilon: float = 1e-5, momentum: float = 0.9):
        return batch_norm(epsilon=epsilon, momentum=momentum)

    factory = memoized(made)
    factory(**first)
    assert repr(factory()) == "<normalizer batch_norm>"
    assert repr(factory(epsilon=0)) == repr(factory(epsilon=0.0)) == "<normalizer batch_norm, epsilon=0.0>"


def test_a_function_compiled_for_a_normalizer_is_compiled_once():
    traces = []

    @partial(jax.jit, static_argnums=0)
    def step(normalizer, x):
        traces.append(normalizer)
        return normalizer.apply(*normalizer.init(x), x)[0]

    for normalizer in (batch_norm(), batch_norm(epsilon=1e-5), batch_norm(momentum=0.9, epsilon=1e-5)):
        step(normalizer, features(ROWS))
    assert len(traces) == 1


def test_a_normalizer_keeps_its_documentation():
    assert batch_norm.__name__ == "batch_norm"
    assert "running" in str(batch_norm.__doc__)
    with pytest.raises(TypeError, match="epsilno"):
        cast(Any, batch_norm)(epsilno=0.0)
    with pytest.raises(TypeError, match="groups"):
        cast(Any, group_norm)()


def test_numpy_arrays_are_taken():
    x, normalizer = np.asarray(features()), batch_norm(epsilon=0.0)
    normalizer.check(x)
    y, _ = normalizer.apply(*normalizer.init(x), x)
    assert_close(y, outputs(normalizer, features()))


def test_names_differ():
    assert len({factory().name for factory in NORMALIZERS.values()}) == len(NORMALIZERS)
    assert noisy_batch_norm().name == "noisy_batch_norm"
