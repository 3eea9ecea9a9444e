"""The feature map: two principal components, and marks for the classes."""

import numpy as np
import pytest

from transferkit.report.feature_map import class_marks, project

SCRIPT = "<script>alert(1)</script>"


NAMES = (SCRIPT, "b & c", "d", "'e' \"f\"", "<img src=x onerror=alert(2)>")


def test_feature_map__keeps_distances_on_a_plane():
    random = np.random.default_rng(1)
    plane = random.normal(0, 1, (40, 2)) * (5, 2)
    turned = plane @ np.linalg.qr(random.normal(0, 1, (8, 8)))[0][:2]
    found = project(np.arange(40), turned.astype(np.float32))

    def distances(points):
        return np.linalg.norm(points[:, None] - points[None], axis=2)

    assert np.allclose(distances(found.points), distances(plane), atol=1e-4)
    assert sum(found.explained) == pytest.approx(1)
    assert found.explained[0] > found.explained[1]


def test_feature_map__of_equal_features_is_a_point():
    found = project(np.arange(4), np.ones((4, 3), dtype=np.float32))

    assert np.isfinite(found.points).all()
    assert sum(found.explained) == pytest.approx(0)


def test_class_marks__differ_and_go_to_the_classes_mistaken_most():
    few = class_marks(NAMES, np.zeros(5))
    many = class_marks([str(i) for i in range(100)], np.arange(100))

    assert len({(mark.colour, mark.shape) for mark in many.values()}) == len(many) == 24
    assert list(many) == list(range(76, 100))
    assert [mark.name for mark in few.values()] == list(NAMES)
