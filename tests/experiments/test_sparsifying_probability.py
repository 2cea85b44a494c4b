"""Steps that reach the dead region are counted, and the counts are held against the bounds."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.theorems.sparsifying import Noise, cantelli_bound
from experiments import sparsifying_probability as experiment
from experiments.common.scale_gradients import (
    DISTANCES,
    ScaleGradientOptions,
    gradients_of_trained_scales,
    over_features,
)
from experiments.common.slopes import local_slopes, slopes_of_tail


def cells(frequency_of, noise="pareto", steps=10**6):
    """Return rows of the table in which the frequency is a function of rate and scale."""
    return [
        {"noise": noise, "rate": rate, "scale": scale, "distance": scale / rate, "steps": steps}
        | {"frequency": (frequency := frequency_of(rate, scale)), "hits": int(frequency * steps), "cantelli": 1.0}
        for rate in (0.1, 0.2, 0.4)
        for scale in (1.0, 2.0)
    ]


def test_the_slopes_are_the_exponents_of_a_power_law():
    rate, scale = slopes_of_tail("pareto", 2.5, cells(lambda rate, scale: 0.1 * rate**2.5 / scale**1.5, steps=10**9))
    assert (rate["of"], scale["of"]) == ("rate", "scale")
    assert rate["slope"] == pytest.approx(2.5)
    assert scale["slope"] == pytest.approx(-1.5)
    assert rate["standard_error"] < 1e-6
    assert (rate["expected"], scale["expected"]) == (2.5, -2.5)


def test_a_slope_is_that_of_the_tail_and_of_known_frequencies_or_has_a_reason():
    too_frequent, too_rare = cells(lambda *_: 0.5), cells(lambda *_: 1e-4)
    for row in slopes_of_tail("pareto", 2.5, too_frequent + too_rare):
        assert row["slope"] is None
        assert "needs 1000 hits in 4 cells" in row["reason"]


def test_a_slope_other_than_the_noises_own_fails_the_check():
    slope = {"noise": "pareto", "of": "rate", "slope": 2.3, "standard_error": 0.01, "expected": 2.05}
    results: dict[str, Any] = {"table": [], "features": [], "slopes": [slope]}
    assert experiment.failures(results)
    assert not experiment.failures({**results, "slopes": [{**slope, "slope": 2.1}]})
    assert not experiment.failures({**results, "slopes": [{**slope, "expected": None}]})


def test_noise_that_goes_above_the_bound_or_off_its_tail_is_found():
    def sample(key, shape, t):
        del key
        return jnp.full(shape, 2 * t)  # Of variance 4 t², and always there.

    rows = experiment._simulated(Noise(sample, cantelli_bound), experiment.jax.random.key(0), 1000, 1)
    assert not any(row["holds"] for row in rows if row["distance"] > 1)
    assert not any(row["as_derived"] for row in rows if row["distance"] > 1)


def test_local_slopes_are_those_between_neighbouring_distances():
    rows = local_slopes("pareto", cells(lambda rate, scale: 0.01 * (rate / scale) ** 3, steps=10**9))
    assert [row["slope"] for row in rows] == pytest.approx([-3] * len(rows), rel=1e-4)
    assert len(rows) == len({row["distance"] for row in rows}) == 3


@pytest.fixture(scope="module")
def trained():
    config = ScaleGradientOptions(epochs=1, batches=40, seeds=1, train_images=200, test_images=100)
    return gradients_of_trained_scales(config)[0]


def test_no_features_gradients_go_further_than_their_variance_allows(trained):
    assert trained
    assert all(row["frequency"] <= row["cantelli"] * (1 + 1e-9) for row in trained)
    assert any(row["frequency"] > 0 for row in trained)


def test_at_its_rate_a_step_of_a_features_gradient_is_as_far_as_the_border(trained):
    nearest = [row for row in trained if row["distance"] == DISTANCES[0]]
    for row in trained:
        own = [one for one in nearest if (one["layer"], one["feature"]) == (row["layer"], row["feature"])]
        # The further away, the smaller the rate: |γ| / η grows linearly in the distance.
        assert all(row["rate"] <= one["rate"] for one in own)


def test_features_are_averaged_at_every_distance(trained):
    rows = over_features(trained)
    assert [row["distance"] for row in rows] == list(DISTANCES)
    for row in rows:
        own = [one["frequency"] for one in trained if one["distance"] == row["distance"]]
        assert row["frequency"] == pytest.approx(np.mean(own))
        assert row["frequency_max"] == max(own)
        assert row["features"] == len(own)


def test_a_power_law_without_variance_is_refused():
    with pytest.raises(ValueError, match="above 2"):
        experiment.Config(pareto_index=1.5)


def test_a_batch_of_more_rows_than_there_are_is_refused():
    config = ScaleGradientOptions(batch_size=300, train_images=200)
    with pytest.raises(ValueError, match="at most the 200 training images, got 300"):
        gradients_of_trained_scales(config)
