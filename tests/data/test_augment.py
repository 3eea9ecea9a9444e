"""Random crops: inside the image, with the intended area and aspect ratio."""

import numpy as np

from transferkit.data.augment import random_crop_box


def test_random_crop_box__stays_inside_and_keeps_area_and_aspect():
    random = np.random.default_rng(0)
    for _ in range(300):
        left, top, right, bottom = random_crop_box(90, 60, random)
        width, height = right - left, bottom - top
        assert 0 <= left < right <= 90
        assert 0 <= top < bottom <= 60
        assert width * height >= 0.33 * 90 * 60
        assert 0.72 < width / height < 1.39


def test_random_crop_box__takes_the_centre_of_a_narrow_image():
    assert random_crop_box(1000, 30, np.random.default_rng(0)) == (480, 0, 520, 30)
