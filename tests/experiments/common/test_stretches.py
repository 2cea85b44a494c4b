"""Networks that are trained in stretches of steps see the same batches, and experiments that compare them agree."""

import numpy as np
import pytest

from experiments import lp_norms, noisy_batch_norm, performance, smoothness
from experiments.common.stretches import StretchOptions, stretch_of_batches

DEFAULT = StretchOptions()
STEPS = DEFAULT.epochs * DEFAULT.stretch


@pytest.mark.parametrize("experiment", [smoothness, lp_norms, noisy_batch_norm])
def test_experiments_on_one_network_train_it_alike(experiment):
    config = experiment.Config()
    assert (config.batch_size, config.learning_rate, config.epochs * config.stretch) == (
        DEFAULT.batch_size,
        DEFAULT.learning_rate,
        STEPS,
    )
    assert config.model == smoothness.Config().model


def test_performance_compares_the_learning_rates_on_the_same_training():
    config = performance.Config()
    assert config.model == smoothness.Config().model
    assert DEFAULT.learning_rate in config.learning_rates
    batches = len(config.load(train=True).labels) // config.batch_size
    assert (config.batch_size, config.epochs * batches) == (DEFAULT.batch_size, STEPS)


def test_the_same_seed_gives_all_normalizers_the_same_batches():
    labels = np.zeros(20, np.int32)
    one, other = (stretch_of_batches(3, labels, 8, np.random.default_rng([5, 1])) for _ in range(2))
    np.testing.assert_array_equal(one.indices, other.indices)
    assert one.indices.shape == (3, 8)
    assert all(len(set(batch)) == 8 for batch in one.indices)
    assert one.dropped == 20 - len(np.unique(one.indices))
