"""What cannot be made of images is refused."""

import pytest

from bnjax.data import digits


def test_fewer_than_one_image_or_pixel_is_refused():
    data = digits(train=False)
    with pytest.raises(ValueError, match="count needs to be at least 1, got -5"):
        data.first(-5)
    with pytest.raises(ValueError, match="size needs to be at least 1, got 0"):
        data.resized(0)
