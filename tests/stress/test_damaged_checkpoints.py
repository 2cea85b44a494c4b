"""A damaged checkpoint is named, with what to remove, and is never taken for a whole one; so is what was measured."""

import errno
import gc
import itertools
import os
import re
import shutil
from pathlib import Path

import pytest

from bnjax.training.checkpoint import Checkpoints
from tests.stress.checkpoints import history_after, restored_epoch, state_after, written
from tests.stress.faults import fault

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected():
    """Have the tasks that orbax leaves behind, where one of them fails, complain here, where nobody listens."""
    yield
    gc.collect()


def _flipped(contents: bytes) -> bytes:
    middle = len(contents) // 2
    return contents[:middle] + bytes(byte ^ 255 for byte in contents[middle : middle + 1]) + contents[middle + 1 :]


DAMAGES = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a wrong byte": lambda path: path.write_bytes(_flipped(path.read_bytes())),
}


def test_what_orbax_says_of_a_new_folder_is_not_taken_for_damage(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise ValueError("an option is unknown")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager", refused)
    (tmp_path / "new").mkdir()
    with pytest.raises(ValueError, match=r"^an option is unknown$"):
        Checkpoints(tmp_path / "new")


@pytest.mark.parametrize("damage", DAMAGES)
def test_whichever_file_is_damaged_the_checkpoint_is_whole_or_named_and_the_one_before_it_remains(damage, tmp_path):
    original = written(tmp_path / "original", 3)
    files = [path.relative_to(original) for path in (original / "3").rglob("*") if path.is_file()]
    named = 0
    for number, file in enumerate(files):
        directory = tmp_path / str(number)
        shutil.copytree(original, directory)
        DAMAGES[damage](directory / file)
        try:
            assert restored_epoch(directory) == 3
        except ValueError as refusal:
            complaint = str(refusal)
        else:
            continue
        assert re.fullmatch(rf"the checkpoint {directory / '3'} is damaged \(.*\); remove it to .*", complaint)
        shutil.rmtree(directory / "3")
        assert restored_epoch(directory) == 1
        named += 1
    assert named > 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
def test_wherever_a_save_fails_the_epoch_before_is_kept(error, tmp_path):
    original = written(tmp_path / "original", 2)
    for number in itertools.count(1, 5):
        directory = tmp_path / str(number)
        shutil.copytree(original, directory)
        checkpoints, complaint = Checkpoints(directory), ""
        with fault(directory, number, error()) as one:
            try:
                checkpoints.save(3, state_after(3), history_after(3))
            except (KeyboardInterrupt, OSError) as interruption:
                complaint = str(interruption)
        assert complaint == "" or complaint.startswith(f"epoch 3 can't be kept in {directory}: OSError: [Errno 28]")
        assert restored_epoch(directory) in (2, 3)
        Checkpoints(directory).save(4, state_after(4), history_after(4))
        assert restored_epoch(directory) == 4
        if one.left:
            break
    assert number > 15
