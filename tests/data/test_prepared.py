"""Prepared image sets are read without TensorFlow; what is missing or damaged is said at once."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnjax.data import NotPreparedError, cifar10, image_set, mnist
from bnjax.data.prepare import Config, prepare

DIRECTORY = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def prepared(name):
    return pytest.mark.skipif(
        not (DIRECTORY / name).is_dir(), reason=f"{name} is not prepared in {DIRECTORY}; see TFDS_DATA_DIR"
    )


def test_a_set_that_is_not_prepared_is_reported_at_once_with_folder_command_and_extra(tmp_path):
    with pytest.raises(NotPreparedError) as caught:
        mnist(train=True, data_dir=tmp_path)
    message = str(caught.value)
    assert f"mnist is not prepared in {tmp_path}" in message
    assert f"python -m bnjax.data.prepare mnist --data-dir {tmp_path}" in message
    assert "bnjax[prepare]" in message


def test_the_folder_comes_from_the_variable_where_none_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(NotPreparedError, match=str(tmp_path)):
        cifar10(train=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=str(tmp_path)):
        prepare(Config("cifar10"))


def test_preparing_without_tensorflow_names_the_extra(tmp_path):
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'tensorflow' else find(name, *a)\n"
        f"sys.argv = ['prepare', 'mnist', '--data-dir', {str(tmp_path)!r}]\n"
        "from bnjax.data.prepare import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'bnjax[prepare]'" in done.stderr
    assert not list(tmp_path.iterdir())


@prepared("cifar10")
def test_images_are_in_the_unit_interval_with_labels_of_all_classes_and_no_tensorflow():
    data = cifar10(train=False)
    assert data.images.dtype == np.float32
    assert data.images.shape[1:] == (32, 32, 3)
    assert (data.images.min(), data.images.max()) == (0, 1)
    assert set(data.labels) == set(range(data.classes)) == set(range(10))
    assert "tensorflow" not in sys.modules


@prepared("cifar10")
def test_a_part_of_the_published_set_is_called_a_subset():
    data = cifar10(train=False)
    assert ("subset" in data.name) == (len(data.labels) < 10_000)
    assert f"{len(data.labels):,}" in data.name


@prepared("cifar10")
@pytest.mark.parametrize("damage", ["truncated", "overwritten", "missing"])
def test_a_damaged_file_is_named_with_what_to_do(damage, tmp_path):
    shutil.copytree(DIRECTORY / "cifar10", tmp_path / "cifar10")
    (file,) = tmp_path.glob("cifar10/*/cifar10-test*")
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    if damage == "missing":
        file.unlink()
    else:
        content[middle : middle + 4000] = bytes(4000)
        file.write_bytes(content[:middle] if damage == "truncated" else content)
    with pytest.raises(ValueError, match=r"test split of cifar10 in .* cannot be read: .*"):
        image_set("cifar10", train=False, data_dir=tmp_path)
