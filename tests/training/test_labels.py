"""What a model returns and what labels say is the loss's business: several arrays, several numbers a row."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from bnjax.data import LabelledImages, random_batches
from bnjax.training import Recipe, train


class TwoHeads(nn.Module):
    """A mean and a width for every row."""

    @nn.compact
    def __call__(self, images, *, mode="batch"):
        del mode
        return {name: nn.Dense(2)(images.reshape(len(images), -1)) for name in ("place", "size")}


def squared_error(outputs, labels):
    return jnp.sum((outputs["place"] - labels[:, 0]) ** 2 + (outputs["size"] - labels[:, 1]) ** 2, axis=-1)


def closeness(outputs, labels):
    return -squared_error(outputs, labels)


def boxes(labels):
    images = np.random.default_rng(0).normal(size=(16, 2, 2, 1)).astype(np.float32)
    return LabelledImages(images, labels, "boxes", 1)


def trained(data, loss=squared_error):
    recipe = Recipe(TwoHeads(), optax.adam(0.1), loss=loss, score=closeness)
    return train(recipe, data, data, order=random_batches, batch_size=8, epochs=20)


def test_a_model_of_several_outputs_learns_labels_of_several_numbers():
    data = boxes(np.ones((16, 2, 2), np.float32))
    history = trained(data).history
    assert history[-1]["test_loss"] < 0.1 * history[0]["test_loss"]
    assert history[-1]["test_closeness"] == -history[-1]["test_loss"]


def test_a_loss_is_one_number_a_row_whatever_the_labels_are():
    data = boxes(np.ones((16, 2, 2), np.float32))
    with pytest.raises(ValueError, match=r"the loss of 8 rows needs the shape \(8,\), one number a row, got \(8, 2\)"):
        trained(data, loss=lambda outputs, labels: outputs["place"] - labels[:, 0])


def test_labels_that_are_not_finite_are_refused():
    labels = np.ones((16, 2, 2), np.float32)
    labels[3, 0, 1] = np.nan
    with pytest.raises(ValueError, match="training labels need to be finite"):
        trained(boxes(labels))
