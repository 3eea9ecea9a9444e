"""Usual images: others are told from them, and they themselves nearly all pass."""

import numpy as np
import pytest
import safetensors.numpy
import torch

from transferkit.errors import BundleError
from transferkit.models.usual_images import UsualImages, distances_among


def directions(count, axis, seed, width=16):
    """Return features that point roughly along an axis, in different lengths."""
    random = np.random.default_rng(seed)
    features = 0.2 * random.standard_normal((count, width))
    features[:, axis] += 1
    return (features * random.uniform(0.5, 20, (count, 1))).astype(np.float32)


def usual(count=400, seed=0):
    half = count // 2
    features = np.concatenate([directions(half, 0, seed), directions(half, 1, seed + 1)])
    return UsualImages.measure(features, np.arange(count))


def scores(images, features):
    return images(torch.from_numpy(features)).numpy()


def test_usual_images__tells_those_in_another_direction():
    images = usual()

    assert (scores(images, directions(100, 2, seed=5)) > images.threshold).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_usual_images__lets_95_percent_of_the_same_kind_pass(axis):
    passed = [
        (scores(usual(seed=10 * seed), directions(100, axis, seed=seed + 900))
         <= usual(seed=10 * seed).threshold).mean()
        for seed in range(20)
    ]  # fmt: skip

    assert 0.92 <= np.mean(passed) <= 0.98


def test_own_scores__leave_the_image_itself_out():
    images = usual(40)
    own = images.own_scores()

    assert (own > images(images.features).numpy()).all()
    rest = UsualImages(images.features[1:], images.rows[1:], 0.0)
    assert own[0] == pytest.approx(float(rest(images.features[:1])), abs=1e-6)
    assert 0.95 <= np.mean(own <= images.threshold) < 1


def test_usual_images__do_not_depend_on_the_length_of_features():
    images, features = usual(), directions(10, 2, seed=5)

    np.testing.assert_allclose(scores(images, features), scores(images, 7 * features), atol=1e-6)


def test_save__keeps_scores_and_threshold(tmp_path):
    images, features = usual(), directions(10, 2, seed=5)
    images.save(tmp_path / "usual")

    loaded = UsualImages.load(tmp_path / "usual")

    assert loaded.threshold == images.threshold
    np.testing.assert_array_equal(loaded.rows, images.rows)
    np.testing.assert_array_equal(scores(loaded, features), scores(images, features))


@pytest.mark.parametrize(
    "content",
    [
        b"broken",
        safetensors.numpy.save({"features": np.ones((40, 4), dtype=np.float16)}),
        safetensors.numpy.save(
            {"features": np.ones((40, 4), dtype=np.float16), "rows": np.arange(39)},
            {"threshold": "0.5"},
        ),
        safetensors.numpy.save(
            {"features": np.ones((2, 4), dtype=np.float16), "rows": np.arange(2)},
            {"threshold": "0.5"},
        ),
        safetensors.numpy.save(
            {"features": np.ones((40, 4), dtype=np.float16), "rows": np.arange(40)},
            {"threshold": "high"},
        ),
    ],
)
def test_load__refuses_a_damaged_file(tmp_path, content):
    (tmp_path / "usual").write_bytes(content)

    with pytest.raises(BundleError, match=r"usual: .*train the model again"):
        UsualImages.load(tmp_path / "usual")


def test_load__names_a_missing_file(tmp_path):
    with pytest.raises(BundleError, match="usual: cannot be read"):
        UsualImages.load(tmp_path / "usual")


def test_distances_among__leave_each_image_itself_out_in_every_part(monkeypatch):
    features = directions(70, 0, seed=0)
    whole = distances_among(features)
    monkeypatch.setattr("transferkit.models.usual_images.MOST", 32)

    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    cosines = (features / lengths) @ (features / lengths).T
    np.fill_diagonal(cosines, -1)
    expected = 1 - np.sort(cosines, axis=1)[:, -5:].mean(axis=1)
    np.testing.assert_allclose(distances_among(features), expected, atol=1e-5)
    np.testing.assert_allclose(whole, expected, atol=1e-5)
