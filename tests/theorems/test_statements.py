"""Every statement holds on random cases, and every check can fail."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.compilation import jit_once
from bnjax.normalizers import batch_norm
from bnjax.theorems import STATEMENTS, Statement, draw_case, smoothness
from bnjax.theorems.statement import Comparison, rounding_bound

CASES = 6
SHAPES = FULLY_CONNECTED, CONVOLUTIONAL = (8, 4), (4, 2, 2, 4)
DERIVED = [statement for statement in STATEMENTS if statement.form == "derived"]
PRINTED = [statement for statement in STATEMENTS if statement.form == "printed"]


def readable(statement: Statement) -> str:
    return statement.name.replace(" ", "_")


@pytest.fixture(scope="module")
def cases():
    keys = jax.random.split(jax.random.key(1), CASES)
    draw = partial(draw_case, dtype=jnp.float64)
    return {shape: jit_once(jax.vmap(partial(draw, shape=shape)))(keys) for shape in SHAPES}


def verdicts(statement, cases, *normalizers):
    """Return, for each of the normalizers, in which cases the statement holds."""

    def holds(normalizer, case):
        comparison = statement.check(normalizer, case)
        error = comparison.error() if statement.relation == "=" else comparison.excess()
        return error <= comparison.bound

    @jax.jit
    @jax.vmap
    def of_all(case):
        return [holds(normalizer, case) for normalizer in normalizers]

    return map(np.asarray, of_all(cases))


@pytest.mark.parametrize("statement", DERIVED, ids=readable)
def test_statement_holds_and_a_broken_normalizer_is_caught(statement, cases):
    shape = CONVOLUTIONAL if "instance" in statement.name else FULLY_CONNECTED
    holds, broken_holds = verdicts(statement, cases[shape], statement.normalizer, statement.broken)
    assert holds.all()
    assert not broken_holds.all()


@pytest.mark.parametrize("name", ["T1", "T2 (ε = 0.3)", "T3", "T6", "T7", "N group_norm", "N l1_norm", "F1"])
def test_statement_holds_behind_a_convolution(name, cases):
    (statement,) = [statement for statement in DERIVED if statement.name == name]
    (holds,) = verdicts(statement, cases[CONVOLUTIONAL], statement.normalizer)
    assert holds.all()


@pytest.mark.parametrize(
    ("name", "violated"), [("S1", True), ("S2", False), ("S3", False), ("S4", True)], ids=["S1", "S2", "S3", "S4"]
)
def test_printed_inequality_is_violated_where_the_derivation_says_so(name, violated, cases):
    (statement,) = [statement for statement in PRINTED if statement.name == name]
    (holds,) = verdicts(statement, cases[FULLY_CONNECTED], statement.normalizer)
    assert bool((~holds).any()) == violated


def test_printed_gradient_norm_bound_fails_on_a_batch_of_two():
    # x = g = (-1, 1): nothing gets back, while the printed bound is 2 - 4/√2 < 0.
    @jit_once
    def both(key):
        case = draw_case(key, shape=(2, 1), dtype=jnp.float64)._replace(x=jnp.array([[-1.0], [1.0]]))
        derived = smoothness.gradient_norm(batch_norm(epsilon=0.0), case)
        printed = smoothness.gradient_norm_printed(batch_norm(epsilon=0.0), case)
        return (derived.error(), derived.bound), (printed.excess(), printed.bound)

    (error, bound), (excess, printed_bound) = both(jax.random.key(0))
    assert error <= bound
    assert excess > 1e6 * printed_bound


def test_theorem_4_2s_second_part_fails_without_its_hypothesis_and_some_cases_fulfil_it(cases):
    @jit_once
    @jax.vmap
    def compared(case):
        found = smoothness.smaller_curvature_printed(batch_norm(epsilon=0.0), case)
        without_hypothesis = jnp.max((found.left - found.right) / found.size)
        return found.applies, found.excess() > found.bound, without_hypothesis > found.bound

    applies, violated, violated_without = map(np.asarray, compared(cases[FULLY_CONNECTED]))
    assert applies.any()
    assert not applies.all()
    assert not violated.any()
    assert violated_without.any()


def test_statement_names_are_unique_within_their_form():
    names = [(statement.name, statement.form) for statement in STATEMENTS]
    assert len(names) == len(set(names))


def test_every_statement_has_a_section_in_the_theory():
    theory = (Path(__file__).parents[2] / "docs" / "theory.md").read_text()
    for statement in STATEMENTS:
        number = statement.name.split()[0]
        assert f"### {number} " in theory, number


def test_comparison_measures_error_relative_to_size():
    comparison = Comparison(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0]), jnp.array(8.0), jnp.array(0.1))
    assert comparison.error() == 0.25
    assert comparison.excess() == 0.0


def test_a_comparison_leaves_out_where_the_statement_does_not_apply():
    sides = jnp.array([1.0, 5.0]), jnp.array([1.5, 4.0])
    comparison = Comparison(*sides, jnp.array(1.0), jnp.array(0.1), jnp.array([True, False]))
    assert comparison.error() == 0.5
    assert comparison.excess() == 0.0


def test_rounding_bound_grows_with_the_condition_and_the_precision():
    well = rounding_bound(jnp.ones(()), jnp.ones(()), 16)
    ill = rounding_bound(1e3 * jnp.ones(()), jnp.ones(()), 16)
    single = rounding_bound(jnp.ones((), jnp.float32), jnp.ones((), jnp.float32), 16)
    assert ill > 100 * well
    assert single > 1e8 * well


def test_random_cases_are_reproducible_and_spread_over_scales():
    draw = jit_once(partial(draw_case, shape=(16, 64), dtype=jnp.float64))
    first, again = (jax.device_get(draw(jax.random.key(3))) for _ in range(2))
    assert jax.tree.all(jax.tree.map(np.array_equal, first, again))
    deviations = np.std(first.x, axis=0)
    assert deviations.max() / deviations.min() > 100
