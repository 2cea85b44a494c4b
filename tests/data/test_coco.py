"""A folder in COCO's form is read as scenes: boxes move with their images, and what is left out is said."""

import json

import numpy as np
import pytest
from PIL import Image

from bnjax.data import coco, coco_scenes

SIZE = 32
WIDE, HIGH = (20, 40), (30, 10)  # height, width


@pytest.fixture
def folder(tmp_path):
    """Return a folder with three images that hold a white box on black, and a crowd among the annotations."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    images, annotations = [], []
    for number, (height, width) in enumerate((WIDE, HIGH, WIDE), start=1):
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[4:14, 2:8] = 255
        Image.fromarray(pixels).save(tmp_path / "val2017" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        annotations.append(annotation(number, 90 if number == 2 else 7, [2, 4, 6, 10], crowd=number == 3))
    annotations.append(annotation(1, 7, [1, 1, 0, 5]))
    annotations.append(annotation(2, 7, [-9, -9, 5, 5]))
    write(tmp_path, {"images": images, "annotations": annotations, "categories": [{"id": 90}, {"id": 7}]})
    return tmp_path


def annotation(image, category, box, *, crowd=False):
    return {"image_id": image, "category_id": category, "bbox": box, "iscrowd": int(crowd)}


def write(folder, held):
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(held))


def test_images_are_letterboxed_and_their_boxes_still_hold_what_they_held(folder):
    scenes = coco(train=False, data_dir=folder, size=SIZE)
    assert scenes.images.shape == (2, SIZE, SIZE, 3)
    for image, ((x0, y0, x1, y1),), shape in zip(scenes.images, scenes.boxes, (WIDE, HIGH), strict=True):
        scale = SIZE / max(shape)
        middle = (SIZE - np.array(shape) * scale) / 2
        np.testing.assert_allclose([y0 - middle[0], x0 - middle[1]], [4 * scale, 2 * scale], atol=1)
        np.testing.assert_allclose([y1 - y0, x1 - x0], [10 * scale, 6 * scale], atol=0.5)
        rows, columns = np.nonzero(image[..., 0] > 0.5)
        held = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose([x0, y0, x1, y1], held, atol=1)
        assert image[: int(middle[0])].max(initial=0) == image[:, : int(middle[1])].max(initial=0) == 0


def test_categories_become_classes_in_the_order_of_their_numbers(folder):
    scenes = coco(train=False, data_dir=folder, size=SIZE)
    assert scenes.labels.tolist() == [[0], [1]]
    assert scenes.classes == 2
    assert scenes.class_names == ("7", "90")


def test_crowds_and_empty_boxes_are_left_out_and_said(folder):
    name = coco(train=False, data_dir=folder, size=SIZE).name
    assert name.startswith("the 2 images with objects of instances_val2017, letterboxed to 32×32")
    assert "1 images without and 3 crowds or boxes outside of them left out" in name


def test_a_part_is_called_a_subset(folder):
    scenes = coco(train=False, data_dir=folder, size=SIZE, count=1)
    assert len(scenes.images) == 1
    assert scenes.name.startswith("subset: the first 1 of the 2 images with objects")


def test_missing_annotations_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"annotations need to be in .*instances_train2017.json"):
        coco(train=True, data_dir=tmp_path, size=SIZE)


def test_a_missing_image_is_named(folder):
    (folder / "val2017" / "2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"the annotations name an image .*2.png, which is not there"):
        coco(train=False, data_dir=folder, size=SIZE)


def test_annotations_of_nothing_are_refused(folder):
    write(folder, {"images": [], "annotations": [], "categories": []})
    with pytest.raises(ValueError, match="needs boxes that are no crowds, got none"):
        coco(train=False, data_dir=folder, size=SIZE)


@pytest.mark.parametrize("text", ["not json", "[]", '{"images": []}'])
def test_files_in_another_form_are_refused(text, tmp_path):
    file = tmp_path / "annotations.json"
    file.write_text(text)
    with pytest.raises(ValueError, match="needs the form of COCO, with images, annotations and categories"):
        coco_scenes(file, tmp_path, size=SIZE)


def test_a_size_or_count_below_one_is_refused(folder):
    with pytest.raises(ValueError, match="at least 1, got 32 and 0"):
        coco(train=False, data_dir=folder, size=SIZE, count=0)


@pytest.mark.parametrize("box", [[1, 2, 5], [1, 2, 5, 5, 5], [float("nan"), 2, 5, 5], [1, 2, float("inf"), 5]])
def test_a_box_of_other_than_four_finite_numbers_is_refused(folder, box):
    held = json.loads((folder / "annotations" / "instances_val2017.json").read_text())
    write(folder, held | {"annotations": [annotation(1, 7, box)]})
    with pytest.raises(ValueError, match="in place of four finite numbers"):
        coco(train=False, data_dir=folder, size=SIZE)


def test_a_box_ends_where_its_image_does_and_two_categories_of_one_number_are_refused(folder):
    held = json.loads((folder / "annotations" / "instances_val2017.json").read_text())
    write(folder, held | {"annotations": [annotation(1, 7, [30, 10, 100, 100])]})
    (box,) = coco(train=False, data_dir=folder, size=40).boxes[0]
    np.testing.assert_allclose(box, [30, 20, 40, 30])
    write(folder, held | {"categories": [{"id": 7}, {"id": 7}, {"id": 90}]})
    with pytest.raises(ValueError, match="two categories of one number"):
        coco(train=False, data_dir=folder, size=SIZE)
