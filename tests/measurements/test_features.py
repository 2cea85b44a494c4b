"""Features that are apart by class are found apart, and features that tell nothing are no obstacle."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from bnjax.measurements import last_layer_inputs, neighbour_accuracy, t_sne
from bnjax.normalizers.normalizer import Mode

GENERATOR = np.random.default_rng(0)
LABELS = np.arange(60) % 3
CLUSTERS = 20 * np.eye(5)[LABELS] + GENERATOR.normal(size=(60, 5))


def test_neighbours_of_clusters_have_their_label():
    assert neighbour_accuracy(CLUSTERS, LABELS) == 1.0


def test_neighbours_of_noise_have_it_by_chance():
    assert neighbour_accuracy(GENERATOR.normal(size=(600, 5)), np.arange(600) % 3) == pytest.approx(1 / 3, abs=0.1)


def test_labels_need_not_be_counted_from_zero():
    assert neighbour_accuracy(CLUSTERS, 10 * LABELS + 7) == 1.0


def test_t_sne_keeps_neighbourhoods_and_is_the_same_every_time():
    places = t_sne(CLUSTERS, seed=0, perplexity=10)
    assert places.shape == (60, 2)
    assert neighbour_accuracy(places, LABELS) == 1.0
    np.testing.assert_array_equal(places, t_sne(CLUSTERS, seed=0, perplexity=10))


def test_features_that_are_all_the_same_are_put_at_one_place():
    assert not t_sne(np.ones((60, 5)), seed=0).any()


@pytest.mark.parametrize("neighbours", [0, 60])
def test_neighbours_that_are_not_there_are_refused(neighbours):
    with pytest.raises(ValueError, match=f"between 1 and the 59 other rows, got {neighbours}"):
        neighbour_accuracy(CLUSTERS, LABELS, neighbours=neighbours)


@pytest.mark.parametrize("perplexity", [0.0, 60.0, np.nan])
def test_a_perplexity_of_all_rows_or_none_is_refused(perplexity):
    with pytest.raises(ValueError, match=f"above 0 and below the 60 rows, got {perplexity}"):
        t_sne(CLUSTERS, seed=0, perplexity=perplexity)


def test_features_that_are_not_finite_are_refused():
    features = np.where(CLUSTERS > 20, np.nan, CLUSTERS)
    for call in (lambda: neighbour_accuracy(features, LABELS), lambda: t_sne(features, seed=0)):
        with pytest.raises(ValueError, match="NaN"):
            call()


class Convolutional(nn.Module):
    """A network that ends in so many convolutions."""

    convolutions: int

    @nn.compact
    def __call__(self, x, *, mode: Mode = "batch"):
        del mode
        for _ in range(self.convolutions):
            x = nn.Conv(2, (3, 3))(x)
        return x


@pytest.mark.parametrize(("convolutions", "got"), [(0, "none"), (1, r"Conv_0 of \(4, 4, 1\)")])
def test_a_network_whose_last_layer_takes_no_vector_is_refused(convolutions, got):
    model, images = Convolutional(convolutions), jax.device_put(np.ones((2, 4, 4, 1)))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    with pytest.raises(ValueError, match=f"needs one vector an image, got {got}"):
        last_layer_inputs(model, variables, images)
