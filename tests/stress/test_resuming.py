"""A run that goes on in its folder finds what it needs there, or says what to remove."""

import re
import shutil
from pathlib import Path

import pytest

from bnjax.data import digits, random_batches
from bnjax.reporting.locks import alone_in
from experiments.common.networks import TrainingOptions
from experiments.common.observed import Observed, trained_and_observed
from tests.training.small_run import RECIPE, small_run


def observed_run(output: Path) -> Observed:
    data = digits(train=True, train_images=64)
    config = TrainingOptions(output=output, epochs=1)
    options = {"order": random_batches, "seed": 3, "advance": lambda *_: None, "observe": lambda epoch, _: [epoch]}
    return trained_and_observed(config, "run", RECIPE, data, data, **options)


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda file: file.write_text("[0"), lambda file: file.write_bytes(b"\xff")]
)
def test_what_was_measured_and_is_damaged_is_named_with_the_folder_to_remove(damage, tmp_path):
    assert observed_run(tmp_path).by_epoch == [[0], [1]]
    (file,) = tmp_path.rglob("observed/0.json")
    damage(file)
    with pytest.raises(ValueError, match=re.escape(str(file))) as refusal:
        observed_run(tmp_path)
    folder = file.parents[1]
    assert f"remove {folder} to train that network anew" in str(refusal.value)
    shutil.rmtree(folder)
    assert observed_run(tmp_path).by_epoch == [[0], [1]]


def test_a_folder_in_which_another_run_trains_is_refused(tmp_path):
    with alone_in(tmp_path), pytest.raises(BlockingIOError, match="is being written by another run"):
        small_run(tmp_path, 1)
    assert not list(tmp_path.iterdir())
