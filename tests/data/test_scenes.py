"""Scenes hold the objects that their boxes say, no nearer than they may, and follow from their seed."""

import numpy as np
import pytest

from bnjax.boxes import intersection_over_union
from bnjax.data import LabelledImages, digits, scenes_of
from bnjax.data.scenes import INK, OVERLAP, stacked

DIGITS = digits(train=False)


@pytest.fixture(scope="module")
def scenes():
    return scenes_of(DIGITS, 60, size=48, seed=3, objects=(1, 5), sides=(10, 24))


def boxes_of(scenes, index):
    return scenes.boxes[index][scenes.labels[index] >= 0]


def test_a_box_alone_in_its_scene_holds_all_of_the_ink_tightly(scenes):
    alone = np.flatnonzero(np.sum(scenes.labels >= 0, axis=1) == 1)
    assert len(alone) > 3
    for index in alone:
        rows, columns = np.nonzero(scenes.images[index, ..., 0] > INK)
        (box,) = boxes_of(scenes, index)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_all_ink_is_in_boxes_and_every_side_of_a_box_touches_some(scenes):
    for index, image in enumerate(scenes.images):
        ink = image[..., 0] > INK
        outside = ink.copy()
        for x0, y0, x1, y1 in boxes_of(scenes, index).astype(int):
            inside = ink[y0:y1, x0:x1]
            assert all(side.any() for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
            outside[y0:y1, x0:x1] = False
        assert not outside.any()


def test_boxes_overlap_by_no_more_than_they_may_but_do_overlap(scenes):
    overlaps = []
    for index in range(len(scenes.images)):
        boxes = boxes_of(scenes, index)
        pairs = intersection_over_union(boxes[:, None], boxes)[np.triu_indices(len(boxes), k=1)]
        overlaps += pairs.tolist()
    assert 0.05 < max(overlaps) <= OVERLAP


def test_numbers_and_scales_are_in_their_range_and_vary(scenes):
    counts = np.sum(scenes.labels >= 0, axis=1)
    assert set(counts) == {1, 2, 3, 4, 5}
    sides = np.concatenate([boxes_of(scenes, index) for index in range(len(counts))])
    heights = sides[:, 3] - sides[:, 1]
    assert heights.max() <= 24
    assert heights.min() < 12
    assert scenes.images.dtype == scenes.boxes.dtype == np.float32
    assert (scenes.images.min(), scenes.classes) == (0, 10)
    assert scenes.images.max() <= 1


def test_the_same_seed_gives_the_same_bits_and_another_one_others():
    first, again, other = (scenes_of(DIGITS, 5, size=40, seed=seed) for seed in (1, 1, 2))
    for part, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(part, same)
    assert not np.array_equal(first.images, other.images)
    assert "seed 1" in first.name
    assert "test part" in first.name


def test_labels_to_train_with_are_label_and_box_of_every_object(scenes):
    data = scenes.labelled()
    np.testing.assert_array_equal(data.labels[..., 0], scenes.labels)
    np.testing.assert_array_equal(data.labels[..., 1:], scenes.boxes)
    assert (data.name, data.classes) == (scenes.name, scenes.classes)


def test_scenes_of_different_numbers_of_objects_are_filled_up():
    image = np.zeros((4, 4, 1), np.float32)
    scenes = stacked([image, image], [[(np.array([0, 1, 2, 3]), 5)], []], "two", list("0123456"))
    assert scenes.labels.tolist() == [[5], [-1]]
    assert scenes.boxes.tolist() == [[[0, 1, 2, 3]], [[0, 0, 0, 0]]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count >= 1"),
        ({"objects": (3, 2)}, r"objects \(3, 2\)"),
        ({"sides": (10, 80)}, "largest side <= size"),
    ],
)
def test_scenes_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scenes_of(DIGITS, **({"count": 2, "size": 40, "seed": 0} | options))


def test_an_image_without_ink_is_refused():
    blank = LabelledImages(np.full((1, 8, 8, 1), 0.1, np.float32), np.zeros(1, np.int32), "blank", 1)
    with pytest.raises(ValueError, match=r"every image needs pixels above 0.2 at .*, got one that is at most 0.1"):
        scenes_of(blank, 1, size=32, seed=0, sides=(8, 16))
