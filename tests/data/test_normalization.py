"""Normalisation: mean and standard deviation per channel, and luma for one channel."""

import torch

from transferkit.data.normalization import normalize
from transferkit.data.preprocessing import Preprocessing


def test_normalize__subtracts_mean_and_divides_by_std():
    record = Preprocessing(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    pixels = torch.full((1, 1, 1, 3), 255, dtype=torch.uint8)

    assert normalize(pixels, record).flatten().tolist() == [1.0, 1.0, 0.0]


def test_normalize__puts_channels_first_and_leaves_the_pixels_as_they_are():
    pixels = torch.arange(12, dtype=torch.uint8).reshape(1, 2, 2, 3)
    before = pixels.clone()

    images = normalize(pixels, Preprocessing(mean=(0, 0, 0), std=(1, 1, 1)))

    assert torch.equal(pixels, before)
    assert torch.allclose(images, pixels.permute(0, 3, 1, 2) / 255)
