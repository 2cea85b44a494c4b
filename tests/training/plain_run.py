"""A training run with nothing in it that is not needed, to be varied."""

import optax

from bnjax.data import digits, random_batches
from bnjax.models import MLP
from bnjax.training import Recipe, train


def plain_run(recipe=None, train_data=None, test_data=None, **options):
    """Train a small network on 64 digits for one epoch, all of it as given or else sound."""
    data = digits(train=False).first(64)
    options = {"order": random_batches, "batch_size": 32, "epochs": 1} | options
    recipe = recipe or Recipe(MLP((8,)), optax.sgd(0.1))
    return train(recipe, train_data or data, test_data or data, **options)
