"""Batched inference: values in order, failures beside them."""

import numpy as np
from PIL import Image

from transferkit.data.preprocessing import Preprocessing
from transferkit.inference import NOT_FINITE, Reading, at_once, run_batches

SMALL = Preprocessing(input_size=(3, 8, 8))


def test_run_batches__reports_what_is_unreadable_or_not_finite(tmp_path):
    files = [tmp_path / f"{i}.png" for i in range(4)]
    for i, file in enumerate(files):
        Image.new("RGB", (9, 9), (40 * i, 0, 0)).save(file)
    files[1].write_bytes(b"broken")

    def forward(pixels):
        reds = pixels[..., 0].mean(axis=(1, 2), dtype=np.float32)
        return np.where(reds > 100, np.nan, reds)[:, None]

    parts = list(run_batches(at_once(forward), SMALL, files, Reading(batch_size=3, workers=2)))

    assert [part.rows.tolist() for part in parts] == [[0, 2], []]
    assert parts[0].failures == ((1, "not an image in a known format"),)
    assert parts[1].failures == ((3, NOT_FINITE),)
    assert list(parts[0].by_image()) == [(0, [0.0], None), (2, [80.0], None)]
    assert list(parts[1].by_image()) == []


def test_run_batches__give_the_same_whether_the_next_batch_is_begun_first(tmp_path):
    files = [tmp_path / f"{i}.png" for i in range(5)]
    for i, file in enumerate(files):
        Image.new("RGB", (9, 9), (40 * i, 0, 0)).save(file)

    def begin(pixels):
        return lambda: pixels[:, 0, :2, 0].astype(np.float32)

    usual, behind = (
        list(run_batches(begin, SMALL, files, Reading(2, workers=2, mirrors=True, ahead=ahead)))
        for ahead in (0, 1)
    )

    assert [part.rows.tolist() for part in behind] == [[0, 1], [2, 3], [4]]
    for one, other in zip(usual, behind, strict=True):
        assert np.array_equal(one.values, other.values)
    assert behind[1].values.tolist() == [[80, 80], [120, 120]]
