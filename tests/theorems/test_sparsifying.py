"""Noise has the moments and the tail that it claims, and no noise goes above the bounds."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bnjax.theorems.sparsifying import (
    cantelli_bound,
    chebyshev_bound,
    distance,
    gaussian_noise,
    pareto_noise,
    two_point_noise,
)

NOISES = {"two_point": two_point_noise(), "pareto": pareto_noise(5.0), "gaussian": gaussian_noise()}
DISTANCES = jnp.asarray([0.05, 0.3, 1.0, 2.0, 3.5])
SAMPLES = 100_000


@partial(jax.jit, static_argnums=0)
def drawn_and_tails(kind, seed):
    """Draw samples at every distance, and say in closed form how many of them go that far."""
    draw = partial(NOISES[kind].sample, jax.random.key(seed), (SAMPLES,))
    return jax.vmap(draw)(DISTANCES), NOISES[kind].tail(DISTANCES)


@pytest.mark.parametrize("kind", NOISES)
def test_noise_has_mean_0_and_variance_1(kind):
    for drawn in np.asarray(drawn_and_tails(kind, 1)[0]):
        error = np.std(drawn) / np.sqrt(SAMPLES)
        assert abs(np.mean(drawn)) < 5 * error
        spread_of_squares = np.std(drawn**2) / np.sqrt(SAMPLES)
        assert abs(np.mean(drawn**2) - 1) < 5 * spread_of_squares + 1e-6


@pytest.mark.parametrize("kind", NOISES)
def test_noise_goes_as_far_as_its_tail_says(kind):
    for t, drawn, tail in zip(*map(np.asarray, (DISTANCES, *drawn_and_tails(kind, 2))), strict=True):
        assert stats.binomtest(int(np.sum(drawn >= t)), SAMPLES, float(tail)).pvalue > 1e-6


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_steps_that_should_reach_the_dead_region_do_in_spite_of_rounding(dtype):
    scales, rates = jnp.exp(jax.random.normal(jax.random.key(0), (2, 300), dtype))
    t = distance(scales, rates)
    draw = jax.jit(jax.vmap(lambda key, t: NOISES["two_point"].sample(key, (400,), t)))
    drawn = draw(jax.random.split(jax.random.key(1), 300), t)
    assert drawn.dtype == dtype
    reached = jnp.mean(scales[:, None] - rates[:, None] * drawn <= 0, axis=1)
    expected = cantelli_bound(t)
    assert jnp.all(jnp.abs(reached - expected) < 6 * jnp.sqrt(expected * (1 - expected) / 400) + 0.01)


@pytest.mark.parametrize("kind", NOISES)
def test_no_tail_is_above_cantellis_bound_and_that_not_above_chebyshevs(kind):
    t = jnp.asarray(np.geomspace(1e-3, 1e3, 200))
    tail, cantelli, chebyshev = (np.asarray(of(t)) for of in (NOISES[kind].tail, cantelli_bound, chebyshev_bound))
    assert np.all(tail <= cantelli)
    assert np.all(cantelli <= chebyshev)


def test_the_two_point_noise_attains_the_bound_with_a_slope_that_tends_to_2():
    t = jnp.asarray(np.geomspace(10, 1000, 5))
    tail = NOISES["two_point"].tail(t)
    assert np.array_equal(tail, cantelli_bound(t))
    slopes = np.diff(np.log(tail)) / np.diff(np.log(t))
    assert np.all(np.abs(slopes + 2) < 0.01)


def test_a_power_law_keeps_its_index_and_a_gaussian_has_none():
    t = jnp.asarray(np.geomspace(1.5, 12, 5))
    slopes = {kind: np.diff(np.log(NOISES[kind].tail(t))) / np.diff(np.log(t)) for kind in ("pareto", "gaussian")}
    assert np.allclose(slopes["pareto"], -5, rtol=1e-12)
    assert np.all(np.diff(slopes["gaussian"]) < -1)


def test_a_step_crosses_the_border_where_the_noise_is_as_large_as_the_distance():
    scale, rate, mean, deviation = 0.7, 0.3, -0.4, 2.5
    t = float(distance(scale, rate, mean, deviation))
    for noise, crosses in ((t * (1 + 1e-12), True), (t * (1 - 1e-12), False)):
        assert (scale - rate * (mean + deviation * noise) <= 0) is crosses


def test_where_no_distance_is_left_a_bound_says_nothing():
    t = jnp.asarray([-3.0, 0.0, 0.5])
    assert np.array_equal(chebyshev_bound(t), np.ones(3))
    assert np.array_equal(cantelli_bound(t), [1.0, 1.0, 0.8])


def test_a_power_law_without_variance_is_refused():
    with pytest.raises(ValueError, match="above 2, got 2"):
        pareto_noise(2.0)
