"""A set that TensorFlow Datasets makes is written whole or not at all, and read again without TensorFlow."""

import importlib.util
import signal
import subprocess
import sys

import numpy as np
import pytest

from bnjax.data import NotPreparedError, image_set

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="preparing needs TensorFlow, in the extra `prepare`"
)

# A set that needs no network; every image shows its own number.
PREPARATION = """
import sys, time
import numpy as np
import tensorflow_datasets as tfds
from bnjax.data.prepare import main

PAUSE = float(sys.argv.pop())


class TinyImages(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        image, label = tfds.features.Image(shape=(8, 8, 1)), tfds.features.ClassLabel(num_classes=3)
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(60), "test": self._generate_examples(30)}

    def _generate_examples(self, count):
        for index in range(count):
            print("example", flush=True)
            time.sleep(PAUSE)
            yield index, {"image": np.full((8, 8, 1), index, np.uint8), "label": index % 3}


main()
"""


def preparation(folder, pause):
    command = [sys.executable, "-c", PREPARATION, "tiny_images", "--data-dir", str(folder), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.usefixtures("children_can_be_interrupted")
def test_an_interrupted_preparation_leaves_no_set_and_the_next_one_completes_it(tmp_path):
    with preparation(tmp_path, pause=1) as interrupted:
        assert interrupted.stdout is not None
        examples = (line for line in interrupted.stdout if line == "example\n")
        next(examples)
        next(examples)  # Between the two TensorFlow is imported, which swallows an interrupt.
        interrupted.send_signal(signal.SIGINT)
    assert interrupted.returncode == 130
    with pytest.raises(NotPreparedError):
        image_set("tiny_images", train=True, data_dir=tmp_path)

    with preparation(tmp_path, pause=0) as completed:
        completed.communicate()
    assert completed.returncode == 0
    data = image_set("tiny_images", train=True, data_dir=tmp_path)
    assert (data.images.shape, data.classes) == ((60, 8, 8, 1), 3)
    shown = np.rint(255 * data.images[:, 0, 0, 0]).astype(int)
    assert sorted(shown) == list(range(60))
    assert (data.labels == shown % 3).all()
