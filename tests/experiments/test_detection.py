"""A detector is trained on scenes with every normalizer alike, and on a folder in COCO's form by the same code."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments import detection

SMALL: dict[str, Any] = {
    "train_images": 24,
    "test_images": 8,
    "size": 32,
    "width": 2,
    "batch_size": 8,
    "epochs": 2,
    "seeds": 2,
}


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    config = detection.Config(**SMALL, output=tmp_path_factory.mktemp("detection"))
    return config, detection.run(config)


def test_every_normalizer_is_measured_from_every_seed_after_every_epoch(record):
    config, results = record
    assert [(row["normalizer"], row["seeds"]) for row in results["table"]] == [(name, 2) for name in config.normalizers]
    assert {(row["normalizer"], row["epoch"]) for row in results["curves"]} == {
        (name, epoch) for name in config.normalizers for epoch in (1, 2)
    }
    assert [row["measure"] for row in results["tests"]] == ["ap", "ap50", "collapsed"]
    assert detection.failures(results) == []


def test_all_normalizers_before_a_relu_are_counted(record):
    config, results = record
    layers = [row for row in results["layers"] if row["normalizer"] == "batch_norm"]
    # Two stages of two convolutions, one more, and one in each branch.
    assert [row["filters"] for row in layers] == [2, 2] + [4] * 5
    assert len(config.normalizers) * len(layers) == len(results["layers"])


def test_a_run_that_was_finished_is_not_made_again_and_gives_the_same(record, monkeypatch):
    config, results = record
    monkeypatch.setattr(detection, "average_precision", None)
    assert detection.run(config) == results


def test_the_same_seed_gives_the_same_numbers_in_another_folder(record, tmp_path):
    _, results = record
    config = detection.Config(**{**SMALL, "seeds": 1}, normalizers=("batch_norm",), output=tmp_path)
    (again,) = detection.run(config)["runs"]
    (first,) = (row for row in results["runs"] if (row["normalizer"], row["seed"]) == ("batch_norm", 0))
    assert again == first


def test_a_network_without_normalizer_is_measured_too(tmp_path):
    options = {**SMALL, "epochs": 1, "seeds": 1}
    results = detection.run(detection.Config(**options, normalizers=("none",), output=tmp_path))
    assert results["table"][0]["normalizer"] == "none"
    assert results["tests"] == detection.summary(results) == []


@pytest.fixture(scope="module")
def coco_folder(tmp_path_factory):
    """Return a folder in COCO's form: a bright square of one of two categories in each image."""
    folder = tmp_path_factory.mktemp("coco")
    (folder / "annotations").mkdir()
    for part in ("train2017", "val2017"):
        (folder / part).mkdir()
        annotations = []
        for image in range(8):
            pixels = np.zeros((24, 32, 3), np.uint8)
            pixels[4:16, image : image + 10, image % 2] = 255
            Image.fromarray(pixels).save(folder / part / f"{image}.png")
            annotations.append({"image_id": image, "category_id": 1 + image % 2, "bbox": [image, 4, 10, 12]})
        held = {
            "images": [{"id": image, "file_name": f"{image}.png", "width": 32, "height": 24} for image in range(8)],
            "annotations": annotations,
            "categories": [{"id": 1}, {"id": 2}],
        }
        (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(held))
    return folder


def test_the_same_code_trains_on_a_folder_in_cocos_form(coco_folder, tmp_path):
    options = {**SMALL, "epochs": 1, "seeds": 1}
    config = detection.Config(**options, dataset="coco", data_dir=coco_folder, output=tmp_path)
    results = detection.run(dataclasses.replace(config, normalizers=("post_shifted_batch_norm",)))
    assert len(results["table"]) == 1
    assert "the 8 images with objects of instances_train2017" in results["data"]
    assert np.shape(results["images"]) == (5, 32, 32, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 30}, "--size needs to be at least 8 and to be halved 2 times, got 30"),
        ({"dataset": "coco"}, "--dataset coco needs its folder"),
        ({"train_images": 4}, "a batch needs 8 rows, but the data has 4"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        detection.run(detection.Config(**(SMALL | options), output=tmp_path))
    assert not list(tmp_path.rglob("observed"))


def test_other_categories_for_testing_are_refused(coco_folder, tmp_path):
    (tmp_path / "annotations").mkdir()
    for part in ("train2017", "val2017"):
        (tmp_path / part).symlink_to(coco_folder / part)
        name = f"annotations/instances_{part}.json"
        held = json.loads((coco_folder / name).read_text())
        held["categories"][0]["name"] = "of training" if part == "train2017" else "of testing"
        (tmp_path / name).write_text(json.dumps(held))
    config = detection.Config(**SMALL, dataset="coco", data_dir=tmp_path, output=tmp_path / "out")
    with pytest.raises(ValueError, match="need the same categories, got of training, 2 and of testing, 2"):
        detection.run(config)


def test_a_share_that_is_none_fails():
    row = {"normalizer": "batch_norm", "ap": 0.5, "ap50": 0.7, "recall": 0.6, "collapsed": 1.5}
    assert detection.failures({"table": [row]}) == ["batch_norm: collapsed is 1.5, and not from 0 to 1"]
