"""What cannot be made of images is refused."""

import numpy as np
import pytest

from bnjax.data import digits


def test_fewer_than_one_image_or_pixel_is_refused():
    data = digits(train=False)
    with pytest.raises(ValueError, match="count needs to be at least 1, got -5"):
        data.first(-5)
    with pytest.raises(ValueError, match="size needs to be at least 1, got 0"):
        data.resized(0)


def test_a_subset_of_classes_has_their_images_and_labels_and_says_so():
    data = digits(train=False)
    some = data.of_classes([7, 2])
    assert set(some.labels) == {2, 7}
    assert some.classes == data.classes
    assert some.name.startswith("classes 2, 7 of digits")
    assert len(some.images) == len(some.labels) == sum((data.labels == 2) | (data.labels == 7))
    with pytest.raises(ValueError, match=r"images of the classes \[12\], got none in digits"):
        data.of_classes([12])


def test_only_images_of_one_class_each_are_chosen_by_class():
    data = digits(train=False)
    with pytest.raises(ValueError, match=r"labels need to be one class an image, got shape \(500, 2\) in digits"):
        data._replace(labels=np.zeros((500, 2))).of_classes([0])


@pytest.mark.parametrize("train_images", [-5, 0, 1797, 5000])
def test_both_parts_of_the_digits_have_images(train_images):
    with pytest.raises(ValueError, match=f"train_images needs to be from 1 to 1796, got {train_images}"):
        digits(train=False, train_images=train_images)
