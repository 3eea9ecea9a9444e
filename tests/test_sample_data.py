"""The sample dataset: complete, small, reproducible, and not to be guessed from colours."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

FOLDER = Path(__file__).parents[1] / "sample_data"
FILES = sorted((FOLDER / "cats").rglob("*.jpg"))
LABELS = np.array([path.parent.name for path in FILES])


@pytest.fixture(scope="module")
def pictures():
    return [np.asarray(Image.open(path).convert("RGB")) for path in FILES]


def cross_validated(rows: list[np.ndarray]) -> float:
    """Return the better 5-fold accuracy of a linear and an RBF classifier."""
    return max(
        cross_val_score(make_pipeline(StandardScaler(), estimator), np.array(rows), LABELS).mean()
        for estimator in (LogisticRegression(max_iter=2000, C=0.1), SVC())
    )


def test_sample_data__has_thirty_distinct_pictures_per_breed():
    breeds, counts = np.unique(LABELS, return_counts=True)
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in FILES}

    assert breeds.tolist() == ["Bengal", "Domestic_Shorthair", "Maine_Coon", "Ragdoll", "Siamese"]
    assert counts.tolist() == [30] * 5
    assert len(digests) == 150


def test_sample_data__is_small_jpegs_of_many_shapes(pictures):
    assert sum(path.stat().st_size for path in FILES) < 3_000_000
    assert all(path.read_bytes()[:3] == b"\xff\xd8\xff" for path in FILES)
    assert len({picture.shape for picture in pictures}) > 100


def test_sample_data__colours_do_not_give_the_breed_away(pictures):
    joint = [
        np.histogramdd(picture.reshape(-1, 3), bins=8, range=[(0, 256)] * 3, density=True)[0]
        for picture in pictures
    ]
    channels = [
        np.concatenate([np.histogram(p[:, :, c], 16, (0, 256), density=True)[0] for c in range(3)])
        for p in pictures
    ]

    assert cross_validated([h.ravel() for h in joint]) < 0.6
    assert cross_validated(channels) < 0.6


def test_sample_data__size_and_mean_colour_do_not_give_the_breed_away(pictures):
    rows = [
        np.array([*p.shape[:2], p.shape[0] / p.shape[1], *p.mean((0, 1)), *p.std((0, 1))])
        for p in pictures
    ]

    assert cross_validated(rows) < 0.6


def test_draw_cats__draws_the_same_again(tmp_path, monkeypatch):
    """Pixels may differ by a step, since versions of Pillow round differently."""
    monkeypatch.syspath_prepend(str(FOLDER))
    draw_cats = __import__("draw_cats")
    draw_cats.draw_all(tmp_path, per_breed=2)

    for path in sorted(tmp_path.rglob("*.jpg")):
        kept = FOLDER / "cats" / path.relative_to(tmp_path)
        with Image.open(path) as again, Image.open(kept) as before:
            difference = np.abs(np.asarray(again, float) - np.asarray(before, float))
        assert difference.mean() < 1.0
    assert len(list(tmp_path.rglob("*.jpg"))) == 10
    sys.modules.pop("draw_cats")
