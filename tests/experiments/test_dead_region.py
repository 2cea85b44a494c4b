"""The border of the dead region is where the theory has it, to the last bit."""

import pytest

from experiments import dead_region

CONFIG = dead_region.Config(rows=16, margins=9, seeds=2, shift=0.3)


@pytest.fixture(scope="module")
def table():
    return dead_region.run(CONFIG)["table"]


def of(table, normalizer, activation):
    return [row for row in table if (row["normalizer"], row["activation"]) == (normalizer, activation)]


def test_behind_a_relu_a_dead_filter_has_neither_gradient_nor_curvature(table):
    for name, border in (("batch_norm", 0.0), ("post_shifted_batch_norm", -0.3)):
        for row in of(table, name, "relu"):
            if abs(row["margin"] - border) > 1e-9:
                nothing = row["gradient_norm_max"] == row["hessian_max"] == 0
                assert nothing is (row["margin"] < border)


def test_behind_a_leaky_relu_it_has_both(table):
    for name in ("batch_norm", "post_shifted_batch_norm"):
        assert all(min(row["gradient_norm"], row["hessian_max"]) > 0 for row in of(table, name, "leaky_relu"))


def test_far_on_the_live_side_leaky_and_plain_agree_up_to_what_is_below_0(table):
    plain, leaky = (of(table, "batch_norm", name)[-1] for name in ("relu", "leaky_relu"))
    assert plain["eigenvalue_max"] == pytest.approx(leaky["eigenvalue_max"], rel=0.5)


def test_a_derivative_in_the_dead_region_fails_the_check(table):
    spoiled = [{**row, "gradient_norm_max": 1e-300} if row["dead"] else row for row in table]
    assert dead_region.failures({"table": table}) == []
    assert dead_region.failures({"table": spoiled})
