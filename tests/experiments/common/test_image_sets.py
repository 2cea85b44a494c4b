"""A set of images, and every other name on the command line, is told in one table."""

import dataclasses
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from bnjax.data import LabelledImages
from experiments import detection
from experiments.common import flow_training
from experiments.common.image_sets import IMAGE_SETS, ImageOptions, ImageSet
from experiments.common.networks import MODELS, NORMALIZERS, OPTIMIZERS
from experiments.common.options import Options
from experiments.common.split_head_networks import OPTIMIZER_OF, SPLIT_MODELS

ROOT = Path(__file__).parents[3]
NAMES = [path.stem for path in (ROOT / "experiments").glob("*.py")]
MODULES = [import_module(f"experiments.{name}") for name in NAMES if name != "__init__"]
CONFIGS: dict[str, type[Options]] = {
    module.__name__.rpartition(".")[2]: module.Config
    for module in MODULES
    if issubclass(getattr(module, "Config", object), Options)
}
# By the name of the option, which names it may take.
TABLES = {
    "dataset": {*IMAGE_SETS},
    "normalizer": {*NORMALIZERS},
    "normalizers": {*NORMALIZERS},
    "model": {*MODELS},
    "models": {*SPLIT_MODELS},
    "optimizer": {*OPTIMIZERS},
    "optimizers": {*OPTIMIZERS},
    "recipes": {*OPTIMIZER_OF},
}


def choices(annotation: Any) -> set[str]:
    """Return the names in a type, such as tuple[Literal["a", "b"], ...] or Literal["a", "b"] | None."""
    return (
        {annotation}
        if isinstance(annotation, str)
        else {name for part in get_args(annotation) for name in choices(part)}
    )


@pytest.fixture
def white(monkeypatch):
    """Enter a set of white images in the table."""

    def read(*, train: bool, data_dir: Path | None) -> LabelledImages:
        images = np.ones((8 if train else 4, 2, 2, 1), np.float32)
        return LabelledImages(images, np.arange(len(images), dtype=np.int32) % 2, f"white, {data_dir}", 2)

    monkeypatch.setitem(IMAGE_SETS, "white", ImageSet(read, levels=2, moments=((0.5,), (0.25,))))


@pytest.mark.usefixtures("white")
def test_a_set_that_is_entered_in_the_table_is_read_named_and_normalized():
    options = ImageOptions(dataset="white", data_dir=Path("here"), test_images=3)
    assert len(options.pixels(train=True).images) == 8
    data = options.images(train=False)
    assert data.name == "subset: the first 3 of white, here"
    np.testing.assert_array_equal(data.images, np.full((3, 2, 2, 1), 2.0))


@pytest.mark.usefixtures("white")
def test_a_flow_takes_the_levels_of_a_set_from_the_table():
    assert flow_training.Config(dataset="white").image_set.levels == 2


def test_scenes_are_made_of_sets_of_the_table():
    assert {*detection.IN_SCENES} < {*IMAGE_SETS}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_names_that_an_experiment_offers_are_those_of_the_tables(name):
    offered = {option: choices(hint) for option, hint in get_type_hints(CONFIGS[name]).items() if option in TABLES}
    expected = {option: TABLES[option] for option in offered}
    own = {
        "audit": {"model": set()},  # A module and a name, of the user's own.
        "blocked_over_training": {"model": {model for model in MODELS if not model.startswith("resnet")}},
        "detection": {"dataset": {*detection.IN_SCENES, "coco"}},
        "flow": {"normalizers": {*flow_training.NORMALIZERS}},
    }
    assert offered == expected | own.get(name, {})


@pytest.mark.parametrize("name", CONFIGS)
def test_where_data_and_results_lie_is_no_matter_to_checkpoints(name, tmp_path):
    config = dataclasses.replace(CONFIGS[name](), output=tmp_path)
    moved = dataclasses.replace(config, preset="paper")
    if hasattr(config, "data_dir"):
        moved = dataclasses.replace(moved, data_dir=tmp_path / "data")
    assert moved.checkpoints_of("run") == config.checkpoints_of("run")
    assert dataclasses.replace(config, seed=1).checkpoints_of("run") != config.checkpoints_of("run")
