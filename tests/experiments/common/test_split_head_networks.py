"""What the experiments on a head's off-diagonal Hessian share: batches, Hessian, split, and networks that are kept."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.models import SplitHead
from bnjax.normalizers import batch_norm, layer_norm
from bnjax.training import loop
from experiments.common import split_head_networks
from experiments.common.split_head_networks import (
    SplitHeadOptions,
    features_before_normalizer,
    off_diagonal_hessian,
    single_class_rows,
    split_term,
    trained_split_heads,
)
from tests.comparison import assert_close

LABELS = np.arange(40) % 4


class FlatHead(SplitHead):
    """A network without convolutions."""

    def trunk(self, x):
        return super().trunk(x.reshape(len(x), -1))


def small_head(*, norm: Any, classes: int) -> SplitHead:
    return FlatHead(1, classes, norm)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    monkeypatch.setattr(split_head_networks, "MODELS", {"lenet_v1": small_head, "lenet_v2": small_head})


def options(folder, *models) -> SplitHeadOptions:
    return SplitHeadOptions(models=models, recipes=("adam",), epochs=2, train_images=64, checkpoints=folder)


def trained(options: SplitHeadOptions) -> list:
    return list(trained_split_heads(options, *(options.images(train=part) for part in (True, False))))


def forbid_training(monkeypatch) -> None:
    def train_epoch(*_, **__):
        raise AssertionError("an epoch was trained")

    monkeypatch.setattr(loop, "train_epoch", train_epoch)


def test_a_second_run_loads_the_networks_and_finds_the_same_features(tmp_path, monkeypatch):
    (first,) = trained(options(tmp_path, "lenet_v1"))
    forbid_training(monkeypatch)
    (second,) = trained(options(tmp_path, "lenet_v1"))
    assert second.accuracy == first.accuracy
    assert np.array_equal(features_before_normalizer(second), features_before_normalizer(first))


def test_without_a_folder_every_run_trains(monkeypatch):
    forbid_training(monkeypatch)
    with pytest.raises(AssertionError, match="an epoch was trained"):
        trained(options(None, "lenet_v1"))


def test_a_checkpoint_of_another_normalizer_is_refused_before_any_network_is_trained(tmp_path, monkeypatch):
    trained(options(tmp_path, "lenet_v1"))
    monkeypatch.setattr(split_head_networks, "batch_norm", layer_norm)
    forbid_training(monkeypatch)
    with pytest.raises(ValueError, match=r"holds another run, with model .*batch_norm.* instead of .*layer_norm"):
        trained(options(tmp_path, "lenet_v2", "lenet_v1"))  # The one that has a checkpoint comes last.
    assert [folder.name for folder in tmp_path.iterdir()] == ["lenet_v1-adam"]


def test_a_batch_has_rows_of_one_class_and_none_twice():
    batches = single_class_rows(LABELS, rows=7, repeats=3, seed=0)
    assert batches.shape == (12, 7)
    assert np.array_equal(LABELS[batches], np.repeat(np.arange(4), 3)[:, None] * np.ones((1, 7)))
    assert all(len(set(batch)) == 7 for batch in batches)


def test_batches_larger_than_a_class_are_refused():
    with pytest.raises(ValueError, match="--rows needs to be at most the 10 test images of class 0, got 11"):
        single_class_rows(LABELS, rows=11, repeats=1, seed=0)


@pytest.mark.parametrize("coordinates", ["authors", "standardized"])
def test_the_hessian_is_that_of_softmax_behind_a_linear_head(coordinates):
    """Version 1 has a single layer W after the normalizer: with p the softmax at 0, H = Wᵀ (diag(p) - p pᵀ) W."""
    generator = np.random.default_rng(0)
    weights, bias = generator.normal(size=(20, 10)), generator.normal(size=10)
    scale, shift = generator.normal(size=(2, 20))
    params = {
        "last": {"kernel": jnp.asarray(weights), "bias": jnp.asarray(bias)},
        "normalization": {"scale": jnp.asarray(scale), "bias": jnp.asarray(shift)},
    }
    slope, logits = (1.0, bias) if coordinates == "authors" else (scale[:, None], shift @ weights + bias)
    probabilities = np.exp(logits) / np.sum(np.exp(logits))
    through = slope * weights
    hessian = through @ (np.diag(probabilities) - np.outer(probabilities, probabilities)) @ through.T
    expected = hessian - np.diag(np.diag(hessian))
    assert_close(off_diagonal_hessian(SplitHead(1, norm=batch_norm()), params, coordinates), expected, order=2)


def test_the_parts_of_the_term_are_the_projections_written_out_feature_by_feature():
    generator = np.random.default_rng(0)
    y, matrix = generator.normal(size=(6, 3)), generator.normal(size=(3, 3))
    linear, none = split_term(jnp.asarray(matrix + matrix.T), jnp.asarray(y))
    for d in range(3):
        projection = np.outer(y[:, d], y[:, d]) / (y[:, d] @ y[:, d])
        assert_close(linear[:, d], projection @ y @ (matrix + matrix.T)[d])
        assert_close(none[:, d], (np.eye(6) - projection) @ y @ (matrix + matrix.T)[d])


def test_a_feature_of_zeros_has_no_parts():
    y = jnp.asarray([[0.0, 1.0], [0.0, -1.0]])
    linear, none = split_term(jnp.eye(2), y)
    assert jax.tree.map(lambda part: part[:, 0].tolist(), (linear, none)) == ([0.0, 0.0], [0.0, 0.0])
