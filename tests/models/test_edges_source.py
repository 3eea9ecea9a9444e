"""edges8, the hand-made extractor: its features, and patches that tell a circle from a star."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from transferkit.errors import OptionError
from transferkit.models.create_network import create_network
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.sklearn import BackboneFeatures

DIRECTIONS = 8


def sums_of(brightness: np.ndarray, patches: int = 1) -> np.ndarray:
    """Return the features of an image of brightness 0..1: (8,) or (8, patches, patches)."""
    network = create_network("edges8", model_args={"patches": patches})
    image = torch.from_numpy(brightness).float().expand(1, 3, -1, -1)
    with torch.no_grad():
        return network.features(image).view(DIRECTIONS, patches, patches).squeeze().numpy()


def test_edges__of_a_ramp_are_its_slope_by_direction():
    ramp = np.tile(np.arange(34) / 34, (34, 1))  # brighter to the right, by 1/34 per pixel
    sums = sums_of(ramp)

    # 32 x 32 derivatives; the one in direction k is the slope times the cosine of k eighths.
    slope = [max(0.0, math.cos(2 * math.pi * k / DIRECTIONS)) for k in range(DIRECTIONS)]
    np.testing.assert_allclose(sums, 32 * 32 / 34 * np.array(slope), rtol=1e-4, atol=1e-3)


def test_edges__of_a_rotated_image_are_rotated():
    image = np.random.default_rng(0).random((40, 40))
    sums, turned = sums_of(image), sums_of(np.rot90(image, -1).copy())

    np.testing.assert_allclose(turned, np.roll(sums, 2), rtol=1e-4)


def test_edges__of_patches_add_up_to_those_of_the_image():
    image = np.random.default_rng(1).random((42, 42))

    np.testing.assert_allclose(
        sums_of(image, 4).sum(axis=(1, 2)), sums_of(image), rtol=1e-4
    )  # 40 x 40 derivatives in 4 x 4 patches


CIRCLE = [1.0] * 96
STAR = [1.0, 0.55] * 8
"""Distances of the corners from the centre; its edges face all directions, like a circle's."""


def outline(radii: list[float], perimeter: float, turn: float) -> list[tuple[float, float]]:
    angles = [turn + 2 * math.pi * i / len(radii) for i in range(len(radii))]
    around = [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]
    length = sum(math.dist(a, b) for a, b in zip(around, around[1:] + around[:1], strict=True))
    return [(64 + x * perimeter / length, 64 + y * perimeter / length) for x, y in around]


def drawn(radii: list[float], seed: int) -> np.ndarray:
    """Draw a dark shape on white, randomly rotated and scaled, (128, 128, 3) uint8."""
    random = np.random.default_rng(seed)
    corners = outline(radii, random.uniform(200, 300), random.uniform(0, 2 * math.pi))
    image = Image.new("L", (512, 512), 255)
    ImageDraw.Draw(image).polygon([(4 * x, 4 * y) for x, y in corners], fill=0)
    return np.asarray(image.resize((128, 128), Image.Resampling.BOX).convert("RGB"))


def test_edges__of_patches_tell_a_circle_from_a_star_and_of_the_image_do_not():
    images = [drawn(shape, seed) for seed in range(60) for shape in (CIRCLE, STAR)]
    labels = np.array([0, 1] * 60)
    accuracy = {}
    for patches in (1, 4):
        rows = BackboneFeatures("edges8", patches=patches, workers=1).fit_transform(images)
        model = make_pipeline(StandardScaler(), SVC()).fit(rows[:80], labels[:80])
        accuracy[patches] = model.score(rows[80:], labels[80:])

    assert accuracy[4] > 0.95
    assert accuracy[1] < 0.7


def test_edges__take_no_weights_and_have_a_value_per_direction_and_patch():
    with pytest.raises(OptionError, match="--weights: edges8 is computed by formula"):
        create_network("edges8", weights="none")
    assert FeatureExtractor(create_network("edges8")).shape == (DIRECTIONS * 16,)
