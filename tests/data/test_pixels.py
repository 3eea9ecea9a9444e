"""The pixel store: each image is prepared once, while there is room."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from transferkit.data.pixels import PixelStore


@pytest.mark.parametrize("in_file", [False, True])
def test_store__gives_back_what_was_prepared_once(in_file, tmp_path):
    store, made = PixelStore(10**6, tmp_path if in_file else None), []

    def prepare(row):
        made.append(row)
        return np.full((row + 1, 2, 3), row, dtype=np.uint8)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for row, pixels in enumerate(
                pool.map(lambda row: store.get(row, lambda: prepare(row)), range(20))
            ):
                assert np.array_equal(pixels, np.full((row + 1, 2, 3), row))
    assert sorted(made) == list(range(20))
    assert store.used == sum(6 * (row + 1) for row in range(20))


def test_store__prepares_pixels_again_if_they_had_no_room():
    store, made = PixelStore(limit=30), []
    for row in (0, 1, 2, 0, 1, 2):
        store.get(row, lambda row=row: made.append(row) or np.zeros((1, 4, 3), dtype=np.uint8))

    assert made == [0, 1, 2, 2]


def test_store__works_without_storing_when_the_device_is_full(monkeypatch, tmp_path):
    class Full:
        seek = close = staticmethod(lambda *_: None)
        write = staticmethod(lambda _: 0)

    monkeypatch.setattr("transferkit.data.pixels.TemporaryFile", lambda **_: Full())
    store = PixelStore(10**6, tmp_path)

    for value in (1, 2):
        pixels = store.get(0, lambda value=value: np.full((2, 2, 3), value, dtype=np.uint8))
        assert (pixels == value).all()
    assert store.used == 0
