import jax
import jax.numpy as jnp
import numpy as np

from bnjax.data import random_crop, random_flip

IMAGES = jax.device_put(np.random.default_rng(0).uniform(0.5, 1, (200, 5, 6, 2)))


def test_a_crop_is_its_image_shifted_with_zeros_where_it_ends():
    cropped = np.asarray(jax.jit(lambda key: random_crop(key, IMAGES, padding=2))(jax.random.key(1)))
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
    shifts = {
        next(
            (row, column)
            for row in range(5)
            for column in range(5)
            if np.array_equal(cropped[i], padded[i, row : row + 5, column : column + 6])
        )
        for i in range(len(IMAGES))
    }
    assert len(shifts) == 25


def test_a_flip_mirrors_about_half_of_the_images_and_leaves_the_others():
    flipped = np.asarray(jax.jit(lambda key: random_flip(key, IMAGES))(jax.random.key(2)))
    mirrored = [np.array_equal(flipped[i], IMAGES[i, :, ::-1]) for i in range(len(IMAGES))]
    same = [np.array_equal(flipped[i], IMAGES[i]) for i in range(len(IMAGES))]
    assert all(one != other for one, other in zip(mirrored, same, strict=True))
    assert 70 < sum(mirrored) < 130


def test_the_same_key_gives_the_same_images_and_their_dtype():
    images = jax.device_put(np.asarray(IMAGES, np.float32))
    for augment in (random_crop, random_flip):
        first, again = (augment(jax.random.key(3), images) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert first.dtype == jnp.float32
