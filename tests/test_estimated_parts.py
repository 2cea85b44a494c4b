"""Estimated diagonals: without bias, exact in their sum, and inside of their intervals as often as these say."""

import json
import re
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec

import bnjax
from bnjax import Probes
from bnjax.derivatives import SECOND_ORDER, TERM_PARTS, TERMS, terms
from bnjax.estimated_parts import with_intervals
from bnjax.normalizers import batch_norm
from bnjax.parts import TOO_FEW_PRODUCTS, carry_back
from bnjax.problem import pose
from tests.comparison import assert_close
from tests.derivatives.cases import FIRST, HEADS, ROWS, features, labels
from tests.test_blocking import assert_adds_up, in_numpy, parts_of

DRAWS, PRODUCTS = 500, 16
KEY = jax.random.key(0)
ESTIMATED = [key for key in TERM_PARTS if key[0] in SECOND_ORDER]
_DRAWN = np.random.default_rng(2)
WIDE, LAST = _DRAWN.normal(size=(12, 5)), _DRAWN.normal(size=(5, 3))


def curved_head(row, label):
    return -jax.nn.log_softmax(jnp.tanh(0.5 * row @ WIDE + 0.3) @ LAST)[label]


PROBLEM = pose(curved_head, batch_norm(epsilon=0.3), features((10, 12)), labels(10), expansion_point=0.2)


def parts(probes: Probes | None):
    """Return all parts at the problem, stacked."""
    split = terms(
        PROBLEM.row_heads(), PROBLEM.center, PROBLEM.standardization(PROBLEM.x), feature_axis=-1, probes=probes
    )
    stacked = carry_back(PROBLEM, split.values, split.gradients, split.rounding)
    return stacked if probes is None else with_intervals(PROBLEM, stacked, split, split.rounding)


def parts_from(products: int):
    """Return the parts of many keys, stacked along the first axis."""

    @jax.jit
    def drawn():
        return jax.vmap(lambda key: parts(Probes(products, key)))(jax.random.split(KEY, DRAWS))

    return in_numpy(drawn())


@pytest.fixture(scope="module")
def exact():
    return in_numpy(jax.jit(lambda: parts(None))())


@pytest.fixture(scope="module")
def drawn():
    return parts_from(PRODUCTS)


@pytest.mark.parametrize("key", ESTIMATED, ids="-".join)
def test_an_interval_holds_the_exact_survival_as_often_as_it_says(exact, drawn, key):
    index = TERM_PARTS.index(key)
    low, high = drawn.survival_interval[:, index].T
    covered = np.mean((low <= exact.survival[index]) & (exact.survival[index] <= high))
    assert covered >= 0.95 - 4 * (0.95 * 0.05 / DRAWS) ** 0.5
    told = np.isfinite(high)
    assert np.median((high - low)[told]) <= 8 * np.std(drawn.survival[told, index])
    # Of this small part it can mostly not be told whether it is there.
    assert np.mean(told) >= (0.1 if key == ("diagonal", "individual") else 0.99)


def test_of_three_products_the_interval_is_as_wide_as_student_says(exact):
    drawn = parts_from(3)
    for key in ((term, "total") for term in SECOND_ORDER):
        index = TERM_PARTS.index(key)
        low, high = drawn.survival_interval[:, index].T
        covered = np.mean((low <= exact.survival[index]) & (exact.survival[index] <= high))
        assert covered >= 0.95 - 4 * (0.95 * 0.05 / DRAWS) ** 0.5


@pytest.mark.parametrize("size", [3e-5, 1e-7])
def test_of_a_nearly_diagonal_hessian_in_float32_the_rest_is_estimated_or_said_to_be_zero(size):
    def report(dtype, probes):
        coupling = np.asarray(WIDE @ WIDE.T, dtype)[:6, :6]
        coupling -= np.diag(np.diag(coupling))

        def loss(row, weights):
            return jnp.sum(jnp.cosh(row) * (1 + weights**2)) + size * (row @ (coupling * weights) @ row)

        x, weights = (np.asarray(features((8, 6), seed=seed), dtype) for seed in (0, 1))
        return bnjax.blocking(loss, batch_norm(), x, weights, expansion_point=0.2, probes=probes)

    expected = parts_of(report(jnp.float64, None))
    for part, found in parts_of(report(jnp.float32, Probes(32, KEY))).items():
        if part[0] == "off_diagonal":
            assert found.survival_interval is not None
            low, high = found.survival_interval
            zero_to_rounding = np.isnan(found.survival) & (found.gradient_norm_output < 4e-3)
            covers = low - 0.1 <= expected[part].survival <= high + 0.1
            assert zero_to_rounding or (covers and size == 3e-5)


def assert_mean(samples, expected):
    """Assert that the mean of independent samples is the expected to five of its deviations."""
    error = np.std(samples, axis=0) / len(samples) ** 0.5
    rounding = 1e-12 * np.max(np.abs(expected))
    assert np.all(np.abs(np.mean(samples, axis=0) - expected) <= 5 * error + rounding)


def test_gradients_values_and_squared_norms_are_right_in_the_mean(exact, drawn):
    assert_mean(drawn.output_gradient, exact.output_gradient)
    assert_mean(drawn.input_gradient, exact.input_gradient)
    assert_mean(drawn.value, exact.value)
    large = np.min(drawn.gradient_norm_output, axis=0) > 0  # The root of an estimate below zero is cut off.
    assert np.sum(large) >= 8
    assert_mean(drawn.gradient_norm_output[:, large] ** 2, exact.gradient_norm_output[large] ** 2)


def test_what_is_not_of_second_order_stays_exact(exact, drawn):
    for index, (term, _) in enumerate(TERM_PARTS):
        if term in ("gradient", "remainder"):
            assert_close(drawn.survival[0, index], exact.survival[index], scale=1.0)
            assert np.isnan(drawn.survival_interval[:, index]).all()


@pytest.fixture(scope="module")
def report():
    return bnjax.blocking(HEADS["tanh"], batch_norm(epsilon=0.0), features(ROWS), labels(6), probes=Probes(3, KEY))


def test_the_terms_add_up_to_the_actual_gradient_from_any_number_of_products(report):
    assert_adds_up(report, pose(HEADS["tanh"], batch_norm(epsilon=0.0), features(ROWS), labels(6)))
    whole = bnjax.blocking(HEADS["tanh"], batch_norm(epsilon=0.0), features(ROWS), labels(6))
    for part in ("total", "shared", "individual"):
        found, expected = (
            sum(parts_of(one)[term, part].input_gradient for term in SECOND_ORDER) for one in (report, whole)
        )
        assert_close(found, expected, order=2, scale=10.0)


def test_an_estimate_of_the_shared_diagonal_is_blocked_as_the_exact_one(report):
    shared = report.terms["diagonal"].shared
    assert np.linalg.norm(shared.input_gradient) <= 1e-12 * np.linalg.norm(shared.output_gradient)
    assert shared.gradient_norm_input <= 1e-12 * np.linalg.norm(shared.output_gradient)


def test_chunks_do_not_change_what_is_drawn(report):
    options: dict[str, Any] = {"probes": Probes(3, KEY), "chunk": 2, "row_chunk": 4}
    in_chunks = bnjax.blocking(HEADS["tanh"], batch_norm(epsilon=0.0), features(ROWS), labels(6), **options)
    for key, part in parts_of(in_chunks).items():
        assert_close(part.input_gradient, parts_of(report)[key].input_gradient, order=2, scale=10.0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_estimates_are_in_the_dtype_of_the_features(dtype):
    x = features(ROWS).astype(dtype)
    report = bnjax.blocking(HEADS["tanh"], batch_norm(), x, labels(6), probes=Probes(3, KEY))
    shared = parts_of(report)["diagonal", "shared"]
    assert shared.input_gradient.dtype == dtype
    interval: Any = shared.survival_interval
    assert interval.dtype == shared.survival.dtype
    assert shared.gradient_norm_output.dtype == shared.survival.dtype


def test_piecewise_linear_logits_need_no_estimate():
    found = bnjax.blocking(HEADS["relu"], batch_norm(), features(ROWS), labels(6), probes=Probes(3, KEY))
    assert found.estimated_from is None
    assert "survival_low" not in found.to_rows()[0]
    assert "estimated" not in str(found)


def test_a_report_names_its_estimates_and_their_intervals(report):
    assert report.estimated_from == 3
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["estimated_from"] == 3
    for row in plain["table"]:
        if row["survival_low"] is not None and row["survival"] is not None:
            assert row["term"] in SECOND_ORDER
            assert row["survival_low"] <= row["survival"] <= row["survival_high"]
        if row["reason"] == TOO_FEW_PRODUCTS:
            assert (row["survival"], row["survival_low"], row["survival_high"]) == (None, 0, None)
        assert row["estimated"] == (row["term"] in SECOND_ORDER)
    assert any(row["reason"] == TOO_FEW_PRODUCTS for row in plain["table"])
    named = "diagonal and off_diagonal, their values and gradients too, estimated from 3 products"
    assert named in " ".join(str(report).split())
    assert named in " ".join(" ".join(text.get_text() for text in report.plot().texts).split())


def test_a_narrow_interval_is_printed_as_how_far_it_reaches(report):
    total = report.terms["off_diagonal"]
    total = replace(total, survival=jnp.array(0.99802), survival_interval=jnp.array([0.99801, 0.99805]))
    printed = str(replace(report, terms={**report.terms, "off_diagonal": total}))
    assert re.search(r"0\.998 +1\.0e-05 +3\.0e-05", printed)


def test_a_model_that_is_not_piecewise_linear_is_audited_from_a_few_products():
    class Curved(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool = False):
            x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Conv(2, (2, 2))(x))
            return nn.Dense(3)(jnp.mean(nn.gelu(x), (1, 2)))

    x = features((4, 3, 3, 1))
    variables = jax.jit(Curved().init)(KEY, x)
    options = {"layer": "norm", "apply_kwargs": {"train": True}, "row_chunk": 2}
    audited = bnjax.audit(Curved(), variables, x, loss=lambda y: jnp.sum(y**2), probes=Probes(8, KEY), **options)
    parts, whole = parts_of(audited), np.asarray(audited.total_gradient)
    arriving = sum(parts[term, "total"].input_gradient for term in TERMS)
    assert np.linalg.norm(arriving - whole) <= 1e-12 * np.linalg.norm(whole)
    assert audited.gradient_error < 1e-5
    assert audited.estimated_from == 8


ONE_KEY = r"probes.key needs to be one random key, such as jax.random.key\(0\), got"
BAD = {
    "none": ((0, KEY), ValueError, "probes.count needs to be at least 3, for a spread, got 0"),
    "two": ((2, KEY), ValueError, "at least 3, for a spread, got 2; without probes the diagonal is exact"),
    "half": ((3.5, KEY), TypeError, "probes.count needs to be an integer, got 3.5"),
    "no key": ((3, None), TypeError, ONE_KEY + " None"),
    "many keys": ((3, jax.random.split(KEY, 2)), TypeError, ONE_KEY),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.usefixtures("signatures_are_not_checked")
def test_what_are_no_probes_is_refused(name):
    arguments, error, message = BAD[name]
    with pytest.raises(error, match=message):
        bnjax.blocking(lambda row: jnp.sum(row**2), batch_norm(), FIRST, probes=Probes(*arguments))


@pytest.mark.usefixtures("signatures_are_not_checked")
def test_a_number_of_probes_without_a_key_is_refused():
    number: Any = 16
    with pytest.raises(TypeError, match=r"probes needs to be Probes\(count, key\), got 16"):
        bnjax.blocking(lambda row: jnp.sum(row**2), batch_norm(), FIRST, probes=number)


def test_probes_are_refused_where_only_the_exact_diagonal_will_do():
    with pytest.raises(ValueError, match="hessian_norms=True needs the exact diagonal"):
        bnjax.blocking(lambda row: jnp.sum(row**2), batch_norm(), FIRST, hessian_norms=True, probes=Probes(3, KEY))


def test_a_key_on_explicit_axes_estimates_what_it_does_elsewhere(report):
    whole = NamedSharding(jax.make_mesh((1,), ("rows",)), PartitionSpec())
    x, probes = jax.device_put(features(ROWS), whole), Probes(3, jax.device_put(KEY, whole))
    found = bnjax.blocking(HEADS["tanh"], batch_norm(epsilon=0.0), x, labels(6), probes=probes)
    assert_close(found.terms["diagonal"].output_gradient, report.terms["diagonal"].output_gradient)
    assert_close(found.terms["diagonal"].input_gradient, report.terms["diagonal"].input_gradient)
