"""Small image files that a test can tell apart."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}


def save_image(path: Path, colour: tuple[int, int, int], *, seed: int, size=(40, 36)) -> None:
    """Write a noisy image of one colour; `size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-30, 30, (size[1], size[0], 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def make_classes(root: Path, count: int = 8) -> Path:
    """Write three classes of `count` images each, told apart by colour."""
    for name, colour in COLOURS.items():
        for i in range(count):
            save_image(root / name / f"{i}.png", colour, seed=10 * len(name) + i)
    return root
