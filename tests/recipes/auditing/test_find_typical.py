"""Typical images of a class are the nearest to its middle, without doubtful ones and copies."""

import numpy as np
from made_dataset import made_dataset

from transferkit.recipes.auditing.find_typical import find_typical

ANGLES = np.radians([0, 4, 9, 50, 90, 94])
FEATURES = (3 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)).astype(np.float32)


def test_find_typical__are_the_nearest_to_the_mean_direction_of_their_class():
    typical = find_typical(made_dataset([0, 0, 0, 0, 1, 1]), FEATURES, ())

    assert typical["ants"] == ("ants/002.jpg", "ants/001.jpg", "ants/000.jpg")
    assert set(typical["bees"]) == {"bees/004.jpg", "bees/005.jpg"}


def test_find_typical__leave_out_what_is_doubted():
    doubted = {"ants/002.jpg", "bees/004.jpg", "bees/005.jpg"}
    typical = find_typical(made_dataset([0, 0, 0, 0, 1, 1]), FEATURES, doubted)

    assert typical == {"ants": ("ants/001.jpg", "ants/000.jpg", "ants/003.jpg"), "bees": ()}


def test_find_typical__show_copies_of_an_image_once():
    dataset = made_dataset([0, 0, 0, 0, 1, 1], copies=[0, 1, 1, 3, 4, 4])
    typical = find_typical(dataset, FEATURES, ())

    assert typical["ants"] == ("ants/002.jpg", "ants/000.jpg", "ants/003.jpg")
    assert len(typical["bees"]) == 1


def test_find_typical__of_features_without_length_are_any():
    typical = find_typical(made_dataset([0, 1]), np.zeros((2, 3), dtype=np.float32), ())

    assert typical == {"ants": ("ants/000.jpg",), "bees": ("bees/001.jpg",)}
