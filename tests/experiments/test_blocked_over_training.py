"""What is followed over training is the report of the network cut at its last normalizer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnjax.models import MLP, cut_at_last_normalizer
from bnjax.normalizers import batch_norm, identity
from bnjax.training import initial_state
from experiments.blocked_over_training import EXPANSION_POINT, Config, blocking_of, measured_epochs, run
from experiments.common.command import main
from tests.comparison import assert_close
from tests.test_blocking import in_numpy

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(12, 3, 3, 1)), jnp.float32)
LABELS = jnp.asarray(np.arange(12) % 4)


def report_of(model) -> Any:
    return blocking_of(model, initial_state(model, optax.sgd(0.1), jax.random.key(0), IMAGES), IMAGES, LABELS)


@pytest.fixture(scope="module")
def report() -> Any:
    return report_of(MLP((6, 5), classes=4, norm=batch_norm(epsilon=0.1)))


def test_the_whole_gradient_is_that_of_the_network_in_double_precision(report):
    model = MLP((6, 5), classes=4, norm=batch_norm(epsilon=0.1))
    state = initial_state(model, optax.sgd(0.1), jax.random.key(0), IMAGES)

    @jax.jit
    def value_and_gradient(variables, images):
        cut = cut_at_last_normalizer(model, variables, images)

        def loss(x):
            logits = cut.head(cut.normalizer.apply(cut.params, cut.stats, x)[0])
            return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, LABELS))

        return jax.value_and_grad(loss)(cut.features)

    single = state.variables, IMAGES
    value, gradient = value_and_gradient(*jax.tree.map(lambda leaf: np.asarray(leaf, float), single))
    assert_close(report.loss, value)
    assert_close(report.total_gradient, gradient, order=1)


def test_of_the_shared_gradient_nothing_is_left_and_of_the_diagonal_term_what_epsilon_lets_through(report):
    assert report.terms["gradient"].shared.survival < 1e-12
    diagonal = in_numpy(report.terms["diagonal"])
    # h (ŷ - c) for each feature, of which JᵀG S keeps h ŷ ε / (σ² + ε).
    standardized_square = np.mean(diagonal.output_gradient**2, axis=0)
    mean = np.mean(diagonal.output_gradient, axis=0)
    curvature = -mean / EXPANSION_POINT
    along = standardized_square - mean**2
    leak = 1 - along / curvature**2  # 1 - mean ŷ² = ε / (σ² + ε)
    expected = np.linalg.norm(leak * np.sqrt(along)) / np.linalg.norm(np.sqrt(standardized_square))
    assert_close(diagonal.survival, expected, order=2)
    assert diagonal.survival > 1e-3


def test_without_a_normalizer_every_term_gets_through_whole():
    for term in report_of(MLP((6, 5), classes=4, norm=identity())).terms.values():
        assert_close(term.survival, 1.0)


def test_a_network_with_shortcuts_past_its_last_normalizer_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(run, Config, name="experiments.blocked_over_training", args=["--model", "resnet18"])
    assert "resnet18" in capsys.readouterr().err


def test_epochs_are_measured_at_powers_of_two_and_at_the_end():
    assert measured_epochs(1) == [0, 1]
    assert measured_epochs(64) == [0, 1, 2, 4, 8, 16, 32, 64]
    assert measured_epochs(20)[-2:] == [16, 20]
