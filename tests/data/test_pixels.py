"""Pixels that are decoded once, and only as large as they are needed."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import save_picture
from PIL import Image

from transferkit.data import images
from transferkit.data.augment import Augment
from transferkit.data.images import decode_image, read_image
from transferkit.data.loader import iterate_batches
from transferkit.data.pixels import PixelStore
from transferkit.data.preprocessing import Preprocessing
from transferkit.data.resizing import resizer
from transferkit.data.transforms import eval_transform, train_transform

SMALL = Preprocessing(input_size=(3, 32, 32))


def smooth(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


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


def test_store__prepares_anew_what_has_no_room():
    store, made = PixelStore(limit=30), []
    for row in (0, 1, 2, 0, 1, 2):
        store.get(row, lambda row=row: made.append(row) or np.zeros((1, 4, 3), dtype=np.uint8))

    assert made == [0, 1, 2, 2]


def test_store__goes_on_when_the_device_is_full(monkeypatch, tmp_path):
    class Full:
        seek = close = staticmethod(lambda *_: None)
        write = staticmethod(lambda _: 0)

    monkeypatch.setattr("transferkit.data.pixels.TemporaryFile", lambda **_: Full())
    store = PixelStore(10**6, tmp_path)

    for value in (1, 2):
        pixels = store.get(0, lambda value=value: np.full((2, 2, 3), value, dtype=np.uint8))
        assert (pixels == value).all()
    assert store.used == 0


@pytest.mark.parametrize("in_file", [False, True])
def test_iterate_batches__reads_a_file_once_and_varies_it_anew(tmp_path, monkeypatch, in_file):
    files = [tmp_path / f"{i}.png" for i in range(4)]
    for i, file in enumerate(files):
        save_picture(file, (50 * i, 0, 99), seed=i, size=(60, 80))
    transform, read = train_transform(SMALL, Augment.LIGHT), []
    store = PixelStore(10**6, tmp_path if in_file else None)
    content = images.read_bytes
    monkeypatch.setattr(images, "read_bytes", lambda path: read.append(path) or content(path))

    def epoch(number, store):
        batches = iterate_batches(
            files, transform, batch_size=3, workers=2, seeds=lambda row: (number, row), store=store
        )
        return torch.cat([batch.pixels for batch in batches])

    kept = [epoch(number, store) for number in (1, 2)]
    assert sorted(read) == files
    assert not torch.equal(*kept)
    assert all(torch.equal(kept[i], epoch(i + 1, None)) for i in (0, 1))


@pytest.mark.parametrize(("side", "needed", "expected"), [
    (4000, 256, 512 - 12), (1600, 256, 800), (1000, 256, 1000), (3000, None, 3000),
])  # fmt: skip
def test_decode_image__leaves_out_pixels_that_nobody_needs(tmp_path, side, needed, expected):
    smooth(side, side).save(tmp_path / "a.jpg")
    decoded = decode_image((tmp_path / "a.jpg").read_bytes(), needed)

    assert decoded.size in {(expected, expected), (side // 4, side // 4)}
    assert needed is None or min(decoded.size) >= 2 * needed or decoded.size == (side, side)


def test_decode_image__of_fewer_pixels_gives_nearly_the_same_view(tmp_path):
    smooth(3000, 4000).save(tmp_path / "a.jpg", exif=sideways())
    transform = eval_transform(Preprocessing())
    whole, reduced = (
        transform.prepare(read_image(tmp_path / "a.jpg", needed)).astype(int)
        for needed in (None, transform.needed)
    )

    assert whole.shape == reduced.shape == (224, 224, 3)
    assert np.abs(whole - reduced).mean() < 1
    assert np.abs(whole - reduced).max() <= 6


def sideways() -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = 6
    return exif


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("box", [(0, 0, 300, 200), (17, 3, 90, 180), (5, 5, 6, 199)])
def test_resizer__torch_and_pillow_differ_by_roundings(interpolation, box):
    pixels = np.asarray(smooth(300, 200))
    image = Image.fromarray(pixels).crop(box)
    image = image.resize((64, 48), Image.Resampling[interpolation.upper()])

    ours = resizer(interpolation)(pixels, box, (48, 64))

    assert ours.shape == (48, 64, 3)
    assert np.abs(ours.astype(int) - np.asarray(image)).max() <= 2


def test_resizer__knows_pillows_other_filters():
    pixels = np.asarray(smooth(30, 20))
    expected = Image.fromarray(pixels).crop((0, 0, 20, 20))
    expected = expected.resize((6, 5), Image.Resampling.LANCZOS)

    assert np.array_equal(resizer("lanczos")(pixels, (0, 0, 20, 20), (5, 6)), expected)


def test_train_transform__prepares_large_pictures_smaller_and_small_ones_not_at_all():
    transform = train_transform(SMALL, Augment.LIGHT)

    assert transform.prepare(smooth(400, 300)).shape == (48, 64, 3)
    assert transform.prepare(smooth(45, 40)).shape == (40, 45, 3)
