"""The orders of the loss add up to it, and each is what its definition says."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import bnjax
from bnjax.normalizers import batch_norm, layer_norm, noisy_batch_norm
from bnjax.parts import NO_GRADIENT
from tests.comparison import assert_close
from tests.derivatives.cases import HEADS, MAPS, ROWS, features, labels
from tests.test_blocking import in_numpy

BATCH_NORM = batch_norm(epsilon=0.0)
CASES = {
    "relu": (HEADS["relu"], BATCH_NORM, ROWS),
    "tanh": (HEADS["tanh"], layer_norm(), MAPS),
    "noise_by_row": (HEADS["polynomial"], noisy_batch_norm(), ROWS),
}


KEY = jax.random.key(0, impl="unsafe_rbg")  # Compiles in a fraction of the time that the default takes.


def spectrum(loss, normalizer, shape, **options):
    return bnjax.spectrum(loss, normalizer, features(shape), labels(shape[0]), key=KEY, **options)


@pytest.fixture(scope="module", params=CASES)
def both(request):
    """Return the spectrum and the blocking report of the same problem."""
    loss, normalizer, shape = CASES[request.param]
    options = {"key": KEY, "expansion_point": 0.1}

    @jax.jit
    def reports(*data):
        arguments = (loss, normalizer, *data)
        return bnjax.spectrum(*arguments, max_order=4, **options), bnjax.blocking(*arguments, **options)

    return reports(features(shape), labels(shape[0]))


def test_orders_and_remainder_add_up_to_gradient_and_loss(both):
    found, blocking = both
    parts = list(map(in_numpy, [*found.orders.values(), found.remainder]))
    arrived, whole = sum(part.input_gradient for part in parts), np.asarray(found.total_gradient)
    assert_close(whole, blocking.total_gradient, order=1)
    assert np.linalg.norm(arrived - whole) <= 1e-12 * np.linalg.norm(whole)
    assert_close(np.asarray(found.value) + sum(part.value for part in parts), blocking.loss, scale=100.0)
    for order in found.orders.values():
        shared, individual = in_numpy(order.shared), in_numpy(order.individual)
        assert_close(shared.input_gradient + individual.input_gradient, order.input_gradient, scale=10.0)


def test_orders_one_and_two_are_the_terms_gradient_and_diagonal_with_off_diagonal(both):
    found, blocking = both
    first, second, terms = found.orders[1], found.orders[2], blocking.terms
    diagonal, off_diagonal = in_numpy(terms["diagonal"]), in_numpy(terms["off_diagonal"])
    assert_close(first.input_gradient, terms["gradient"].input_gradient, order=1, scale=10.0)
    assert_close(first.shared.output_gradient, terms["gradient"].shared.output_gradient, order=1)
    assert_close(second.input_gradient, diagonal.input_gradient + off_diagonal.input_gradient, order=2, scale=10.0)
    assert_close(second.value, diagonal.value + off_diagonal.value, order=2, scale=10.0)


def test_in_rows_the_shared_second_order_is_the_shared_diagonal_and_off_diagonal():
    arguments = (HEADS["tanh"], BATCH_NORM, features(ROWS), labels(6))
    found, terms = bnjax.spectrum(*arguments, max_order=2), bnjax.blocking(*arguments).terms
    order, diagonal, off_diagonal = found.orders[2].shared, terms["diagonal"].shared, terms["off_diagonal"].shared
    assert order is not None
    assert diagonal is not None
    assert off_diagonal is not None
    second_order = np.asarray(diagonal.output_gradient) + np.asarray(off_diagonal.output_gradient)
    assert_close(order.output_gradient, second_order, order=2)


def test_a_polynomial_of_degree_four_ends_at_order_four():
    found = spectrum(HEADS["polynomial"], BATCH_NORM, ROWS, max_order=5)
    assert found.orders[4].survival > 0.01
    assert np.isnan(found.remainder.survival)
    assert_close(found.remainder.value, 0.0, scale=1000.0)
    assert_close(found.orders[5].output_gradient, np.zeros(ROWS), scale=1000.0)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_pure_power_is_blocked_to_order_two_and_its_survival_is_that_of_t4(order):
    x = np.asarray(features((7, 1)))
    found = bnjax.spectrum(lambda row: row[0] ** order, BATCH_NORM, x, max_order=4)
    y = (x - x.mean()) / x.std()
    gradient = y ** (order - 1)
    passed = gradient - gradient.mean() - np.mean(y**order) * y
    expected = np.linalg.norm(passed) / np.linalg.norm(gradient)
    assert_close(found.orders[order].survival, expected, order=1, scale=1.0)
    assert (expected > 0.01) == (order > 2)
    assert all(np.isnan(part.survival) for k, part in found.orders.items() if k != order)


def test_an_order_that_vanishes_by_symmetry_has_no_survival():
    two_classes = bnjax.cross_entropy_head(lambda row: jnp.stack([jnp.sin(1.0), -jnp.cos(2.0)]) * (row[0] + 2 * row[1]))
    found = bnjax.spectrum(two_classes, BATCH_NORM, features(ROWS), labels(6) % 2, max_order=6)
    for order, part in found.orders.items():
        assert (part.to_row()["reason"] == NO_GRADIENT) == (order in (3, 5))


def test_every_order_survives_without_a_normalizer():
    found = spectrum(HEADS["relu"], bnjax.normalizers.identity(), ROWS, max_order=4)
    for part in found.orders.values():
        assert_close(part.survival, 1.0)


@pytest.mark.parametrize("nothing", [{}, ()], ids=repr)
def test_a_row_argument_without_arrays_changes_nothing(nothing):
    alone = bnjax.spectrum(lambda row: jnp.sum(row**3), BATCH_NORM, features((5, 2)), max_order=3)
    found = bnjax.spectrum(lambda row, _: jnp.sum(row**3), BATCH_NORM, features((5, 2)), nothing, max_order=3)
    assert_close(found.orders[3].survival, alone.orders[3].survival)


@pytest.fixture(scope="module")
def report():
    return bnjax.spectrum(HEADS["relu"], BATCH_NORM, features(ROWS), labels(6), max_order=4)


def test_a_report_is_a_pytree(report):
    doubled = jax.tree.map(lambda leaf: 2 * leaf, report)
    assert isinstance(doubled, bnjax.SpectrumReport)
    assert_close(doubled.orders[3].value, 2 * report.orders[3].value)


def test_a_report_is_plain_json_without_nan(report):
    table = json.loads(json.dumps(report.to_dict(), allow_nan=False))["table"]
    assert [row["order"] for row in table] == [*[order for order in range(1, 5) for _ in range(3)], "remainder"]
    assert all(row["survival"] is not None or row["reason"] for row in table)


def test_a_report_prints_a_table_and_plots_a_figure(report):
    assert "What gets back through batch_norm, order by order" in str(report)
    assert "nan" not in str(report)
    figure = report.plot()
    assert isinstance(figure, Figure)
    assert figure.axes


def test_under_an_outer_jit_the_report_is_the_same(report):
    compiled = jax.jit(lambda x: bnjax.spectrum(HEADS["relu"], BATCH_NORM, x, labels(6), max_order=4))(features(ROWS))
    for order, part in compiled.orders.items():
        assert_close(part.input_gradient, report.orders[order].input_gradient, order=2, scale=10.0)
