"""Which terms get back: the report adds up to the loss, and what theory blocks arrives as zero."""

import json
import math
from dataclasses import fields
from itertools import cycle, product
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bnjax
from bnjax.derivatives import PARTS, TERMS
from bnjax.normalizers import (
    batch_norm,
    batch_renorm,
    detached_batch_norm,
    frozen_batch_norm,
    ghost_batch_norm,
    group_norm,
    identity,
    instance_norm,
    layer_norm,
    lp_norm,
    noisy_batch_norm,
    post_shifted_batch_norm,
    rms_norm,
)
from bnjax.parts import NO_GRADIENT, Part
from bnjax.problem import pose
from tests.comparison import assert_close
from tests.derivatives.cases import CASES, CHANNELS_FIRST, HEADS, MAPS, ROWS, features, labels, reference

KEY = jax.random.key(0, impl="unsafe_rbg")  # Compiles in a fraction of the time that the default takes.
BATCH_TYPE = {
    "batch": lambda **options: batch_norm(**options),
    "ghost": lambda **options: ghost_batch_norm(ghost_size=3, **options),
    "noisy": lambda **options: noisy_batch_norm(**options),
    "post_shifted": lambda **options: post_shifted_batch_norm(**options),
    "l2": lambda **options: lp_norm(p=2, **options),
    "renorm": lambda **options: batch_renorm(**options),
}
EVERY = {
    **BATCH_TYPE,
    "layer": layer_norm,
    "rms": rms_norm,
    "group": lambda **options: group_norm(groups=2, **options),
    "l1": lambda **options: lp_norm(p=1, **options),
    "instance": instance_norm,
    "linf": lambda **options: lp_norm(p=math.inf, **options),
    "differentiated_renorm": lambda **options: batch_renorm(stop_gradient=False, **options),
    "frozen": frozen_batch_norm,
    "detached": detached_batch_norm,
    "identity": lambda **options: identity(affine=True, **options),
}
LAYOUTS = {"rows": (ROWS, -1), "maps": (MAPS, -1), "channels_first": (CHANNELS_FIRST, 1)}


def parts_of(report) -> dict[tuple[str, str], Any]:
    """Return the numbers of every part of a report by term and name, in NumPy: to compare them compiles nothing."""
    found = {
        (term, part): report.terms[term] if part == "total" else getattr(report.terms[term], part)
        for term in TERMS
        for part in PARTS
    }
    return {key: in_numpy(part) for key, part in found.items() if part is not None}


def in_numpy(part: Part) -> Any:
    """Return the attributes of a part, and not those of what it consists of."""
    return SimpleNamespace(**{field.name: jax.device_get(getattr(part, field.name)) for field in fields(Part)})


def options_of(normalizer, x):
    """Return statistics, parameters that are not the initial ones, and a key."""
    params, stats = normalizer.init(x)
    params = {name: np.asarray(value) + 0.25 * np.cos(np.arange(value.size)) for name, value in params.items()}
    return {"params": params, "stats": stats, "key": KEY}


@jax.jit
def whole_gradient(problem):
    """Return `L` and `∂L/∂X`, with none of the library's ways: by `normalizer.apply`, then the loss of each row."""

    def whole(x):
        y, _ = problem.normalizer.apply(problem.params, problem.stats, x, key=problem.key)
        return jnp.sum(jax.vmap(problem.loss)(y, *problem.row_arguments))

    return jax.value_and_grad(whole)(problem.x)


def assert_adds_up(report, problem):
    loss, gradient = jax.device_get(whole_gradient(problem))
    parts = parts_of(report)
    arrived = sum(parts[term, "total"].input_gradient for term in TERMS)
    assert np.linalg.norm(arrived - gradient) <= 1e-12 * np.linalg.norm(gradient)
    assert np.linalg.norm(np.asarray(report.total_gradient) - gradient) <= 1e-12 * np.linalg.norm(gradient)
    values = [np.asarray(report.value), *(parts[term, "total"].value for term in TERMS)]
    assert_close(sum(values), loss, scale=1 + sum(abs(float(value)) for value in values))
    assert_close(report.loss, loss)
    for term in TERMS[:-1]:
        whole, shared, individual = (parts[term, part] for part in PARTS)
        scale = 1 + float(np.abs(whole.input_gradient).max() + np.abs(shared.input_gradient).max())
        assert_close(shared.input_gradient + individual.input_gradient, whole.input_gradient, scale=scale)


# Every normalizer, and every head in every layout; each is compiled once for all its examples.
COMBINATIONS = [(name, *rest) for name, rest in zip(EVERY, cycle(product(HEADS, LAYOUTS)), strict=False)]


@pytest.mark.parametrize(("name", "head", "layout"), COMBINATIONS)
@settings(max_examples=6)
@given(seed=st.integers(0, 2**16), single_class=st.booleans(), point=st.sampled_from([0.0, 0.3]))
def test_the_terms_input_gradients_add_up_to_the_gradient_of_the_whole_loss(
    name, head, layout, seed, single_class, point
):
    shape, axis = LAYOUTS[layout]
    x = features(shape, seed=seed)
    row_labels = np.ones(6, int) if single_class else labels(6, seed=seed)
    normalizer = EVERY[name](feature_axis=axis)
    options = options_of(normalizer, x) | {"expansion_point": point}
    report = bnjax.blocking(HEADS[head], normalizer, x, row_labels, **options)
    assert_adds_up(report, pose(HEADS[head], normalizer, x, row_labels, **options))


@pytest.mark.parametrize(
    ("name", "layout"), [*((name, "rows") for name in BATCH_TYPE), ("batch", "channels_first"), ("ghost", "maps")]
)
def test_what_the_batch_shares_of_gradient_and_diagonal_is_blocked_at_epsilon_zero(name, layout):
    shape, axis = LAYOUTS[layout]
    x, normalizer = features(shape), BATCH_TYPE[name](epsilon=0.0, feature_axis=axis)
    options = options_of(normalizer, x)
    report = bnjax.blocking(HEADS["tanh"], normalizer, x, labels(6), **options, expansion_point=0.2)
    parts = parts_of(report)
    assert parts["gradient", "shared"].survival <= 1e-12
    assert parts["diagonal", "shared"].survival <= 1e-12
    for not_blocked in (("gradient", "individual"), ("off_diagonal", "shared")):
        assert parts[not_blocked].survival > 0.01


@pytest.mark.parametrize("name", ["identity", "frozen", "detached"])
def test_without_statistics_in_the_derivative_everything_survives(name):
    x, normalizer = features(ROWS), EVERY[name]()
    report = bnjax.blocking(HEADS["tanh"], normalizer, x, labels(6), **options_of(normalizer, x))
    for part in parts_of(report).values():
        assert_close(part.survival, 1.0)
    assert_close(report.total_survival, 1.0)


def test_a_single_class_batch_has_no_individual_part_and_says_why():
    report = bnjax.blocking(HEADS["relu"], batch_norm(epsilon=0.0), features(ROWS), np.ones(6, int))
    for term in TERMS[:-1]:
        assert np.isnan(parts_of(report)[term, "individual"].survival)
    for row in report.to_rows():
        if row["part"] == "individual":
            assert (row["survival"], row["reason"]) == (None, NO_GRADIENT)
        else:
            assert row["survival"] >= 0
            assert row["reason"] == ""


def test_with_positions_even_a_single_class_batch_has_an_individual_part():
    report = bnjax.blocking(HEADS["relu"], batch_norm(), features(MAPS), np.ones(6, int))
    assert parts_of(report)["gradient", "individual"].survival > 0.01


def test_a_constant_loss_has_no_survival_anywhere_and_says_why():
    report = bnjax.blocking(lambda row: 0.0 * jnp.sum(row) + 2.0, batch_norm(), features(ROWS))
    assert {row["reason"] for row in report.to_rows()} == {NO_GRADIENT}
    assert report.to_dict()["total_survival"] is None
    assert "no gradient at the normalizer's output: its scale, or one behind it" in " ".join(str(report).split())


def test_scale_and_bias_count_as_part_of_the_head():
    x, normalizer = features(ROWS), batch_norm(epsilon=0.0)
    scale, bias = jnp.array([1.5, -0.5, 2.0, 0.3]), jnp.array([0.1, 0.4, -0.7, 0.2])

    def head(row, label):
        return HEADS["tanh"](scale * row + bias, label)

    inside = bnjax.blocking(HEADS["tanh"], normalizer, x, labels(6), params={"scale": scale, "bias": bias})
    outside = bnjax.blocking(head, normalizer, x, labels(6))
    for key, other in parts_of(outside).items():
        assert_close(parts_of(inside)[key].input_gradient, other.input_gradient, order=2, scale=10.0)


def test_pure_powers_of_one_feature_go_to_the_terms_of_their_order():
    x = np.asarray(features((6, 1)))
    report = bnjax.blocking(
        lambda row: 3 * row[0] + row[0] ** 2 + row[0] ** 3, batch_norm(epsilon=0.0, affine=False), x
    )
    standardized = (x - x.mean()) / x.std()
    assert_close(report.terms["gradient"].value, 3 * np.sum(standardized), scale=10.0)
    assert_close(report.terms["diagonal"].value, 6.0)
    assert_close(report.terms["off_diagonal"].value, 0.0)
    assert_close(report.terms["remainder"].value, np.sum(standardized**3))
    assert report.terms["off_diagonal"].to_row()["reason"] == NO_GRADIENT


def test_under_an_outer_jit_the_report_is_the_same():
    normalizer = batch_norm(epsilon=0.0)

    @jax.jit
    def compiled(x, row_labels):
        return bnjax.blocking(HEADS["relu"], normalizer, x, row_labels)

    found = compiled(features(ROWS), labels(6))
    expected = bnjax.blocking(HEADS["relu"], normalizer, features(ROWS), labels(6))
    for key, other in parts_of(expected).items():
        assert_close(parts_of(found)[key].input_gradient, other.input_gradient, order=1, scale=10.0)
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_features_may_be_constants_of_an_outer_jit():
    x = features(ROWS)
    compiled = jax.jit(lambda row_labels: bnjax.blocking(HEADS["relu"], batch_norm(), x, row_labels).total_gradient)
    assert_close(compiled(labels(6)), bnjax.blocking(HEADS["relu"], batch_norm(), x, labels(6)).total_gradient, order=1)


def test_hessian_norms_are_those_of_the_dense_reference():
    case, wanted = CASES["tanh_rows_off_center"], reference("tanh_rows_off_center")
    found = bnjax.blocking(case.loss, case.normalizer, *case.data, **case.options, hessian_norms=True, chunk=7)
    for key, part in parts_of(found).items():
        norms = part.hessian_norm_output, part.hessian_norm_input
        dense = np.stack([wanted[key].output_hessian, wanted[key].input_hessian])
        assert_close(norms, np.linalg.norm(dense, axis=(1, 2)), order=3, scale=10.0)


def test_hessian_norms_of_small_features_in_single_precision_are_those_of_double_precision():
    x = 1e-10 * np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    found, wanted = (
        bnjax.blocking(HEADS["tanh"], batch_norm(epsilon=0.0), x.astype(dtype), labels(8), hessian_norms=True)
        for dtype in (np.float32, np.float64)
    )
    for term in ("off_diagonal", "remainder"):
        part, double = (report.terms[term].to_row() for report in (found, wanted))
        assert double["hessian_norm_input"] > 2e19, "the square is a number in single precision too"
        for name in ("hessian_norm_output", "hessian_norm_input"):
            assert_close(np.float32(part[name]), double[name], order=1)


@pytest.mark.parametrize("normalizer", [batch_norm(), identity()], ids=["batch_norm", "identity"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_gradients_come_back_in_the_dtype_of_the_features(normalizer, dtype):
    found = bnjax.blocking(HEADS["relu"], normalizer, features(ROWS).astype(dtype), labels(6))
    assert found.total_gradient.dtype == dtype
    assert all(part.input_gradient.dtype == dtype for part in parts_of(found).values())


def test_survival_has_a_derivative_also_beside_parts_that_are_zero():
    x, loss = features(ROWS), HEADS["relu"]
    gradient = jax.grad(lambda x: bnjax.blocking(loss, batch_norm(epsilon=0.1), x, labels(6)).total_survival)(x)
    assert np.isfinite(gradient).all()
    assert np.linalg.norm(gradient) > 0


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_survival_does_not_depend_on_the_size_of_the_loss(size):
    x, loss = features(ROWS), HEADS["tanh"]
    plain = bnjax.blocking(loss, batch_norm(), x, labels(6))
    scaled = bnjax.blocking(lambda row, label: size * loss(row, label), batch_norm(), x, labels(6))
    for term in TERMS:
        assert_close(scaled.terms[term].survival, plain.terms[term].survival, order=2)
