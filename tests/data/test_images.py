"""What cannot be made of images is refused."""

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
