"""Images that are far from all others are named; a crowd names none."""

import numpy as np

from transferkit.recipes.auditing.find_outliers import find_outliers
from transferkit.tables.audit_findings import Kind


def crowd(count: int, seed: int = 0) -> np.ndarray:
    """Return features that point roughly in one direction."""
    features = 0.2 * np.random.default_rng(seed).standard_normal((count, 16))
    features[:, 0] += 1
    return features.astype(np.float32)


def test_find_outliers__names_what_is_far_from_all_others_the_farthest_first():
    features = crowd(200)
    features[7] = np.eye(16)[1]
    features[3] = np.eye(16)[2] + 0.5 * np.eye(16)[0]
    findings = find_outliers(list(map(str, range(200))), features).findings

    assert [finding.path for finding in findings] == ["7", "3"]
    assert 0 < findings[1].score < findings[0].score < 1


def test_find_outliers__names_none_of_a_crowd():
    assert find_outliers(list(map(str, range(200))), crowd(200)).findings == ()


def test_find_outliers__needs_some_images():
    found = find_outliers(list(map(str, range(19))), crowd(19))

    assert found.findings == ()
    assert "fewer than 20 images" in found.rules[Kind.OUTLIER]
