"""Overlays: colour where there is evidence, grey elsewhere."""

import numpy as np
from PIL import Image

from transferkit.report.overlay import overlay


def test_overlay__is_grey_without_heat_and_bright_with_it():
    image = Image.new("RGB", (40, 20), (200, 20, 20))
    heat = np.zeros((10, 20), dtype=np.float32)
    heat[:, 15:] = 1e-7
    drawn = np.asarray(overlay(image, heat)).astype(int)

    assert drawn.shape == (20, 40, 3)
    assert np.ptp(drawn[:, :25], axis=2).max() == 0
    assert (drawn[:, 35:].sum(axis=2) > 2 * drawn[:, :25].sum(axis=2).max()).all()
    cold = np.asarray(overlay(image, np.zeros((10, 20))))
    assert np.ptp(cold, axis=2).max() == 0
