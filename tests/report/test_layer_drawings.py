"""Drawings of kernels and feature maps."""

import numpy as np
from PIL import Image

from transferkit.report.layer_drawings import draw_kernels, draw_maps, strongest_channels


def pixels_of(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_kernels__show_weights_as_colours_around_grey(tmp_path):
    kernels = np.zeros((2, 3, 1, 2), np.float32)
    kernels[0, 0, 0, 0], kernels[0, 2, 0, 1] = 2, -2  # one pixel red, the next with less blue

    draw_kernels(kernels, tmp_path / "k.png", title="two")
    drawn = {tuple(map(int, colour)) for colour in pixels_of(tmp_path / "k.png").reshape(-1, 3)}

    assert {(255, 127, 127), (127, 127, 0), (127, 127, 127), (255, 255, 255)} <= drawn


def test_kernels__of_zeros_or_without_three_channels_are_grey(tmp_path):
    draw_kernels(np.zeros((5, 3, 3, 3), np.float32), tmp_path / "zeros.png", title="$a$ <b>")
    draw_kernels(np.random.default_rng(0).random((7, 5, 2, 2), np.float32), tmp_path / "five.png",
                 title="five")  # fmt: skip

    for name in ("zeros", "five"):
        pixels = pixels_of(tmp_path / f"{name}.png").astype(int)
        assert np.ptp(pixels, axis=2).max() == 0


def test_strongest_channels__are_those_that_vary_most():
    maps = np.zeros((4, 2, 2), np.float32)
    maps[1] = 100  # large, but constant
    maps[2, 0, 0], maps[3, 0, 0] = 2, 8

    assert strongest_channels(maps, 2) == [3, 2]
    assert strongest_channels(maps, 9) == [3, 2, 0, 1]


def test_maps__show_the_image_and_each_map_from_its_lowest_to_its_highest(tmp_path):
    maps = np.arange(2 * 4, dtype=np.float32).reshape(2, 2, 2)
    draw_maps(maps, np.full((8, 8, 3), (9, 99, 199), np.uint8), tmp_path / "m.png", count=2,
              title="x")  # fmt: skip
    pixels = pixels_of(tmp_path / "m.png").reshape(-1, 3)

    counts = {tuple(c): (pixels == c).all(axis=1).sum() for c in ((9, 99, 199), (253, 231, 36))}
    assert min(counts.values()) > 100
