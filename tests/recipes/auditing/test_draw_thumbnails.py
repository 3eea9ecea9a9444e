"""Thumbnails of an audit's page: large ones of a few images, and no more than fit."""

import base64
from io import BytesIO

import pytest
from image_files import COLOURS, save_image
from PIL import Image

from transferkit.options.audit import AuditOptions
from transferkit.recipes.auditing import draw_thumbnails as module
from transferkit.recipes.auditing.draw_thumbnails import draw_thumbnails
from transferkit.recipes.auditing.read_images import read_images
from transferkit.reporter import SILENT


@pytest.fixture
def dataset(tmp_path):
    for seed, (name, colour) in enumerate(COLOURS.items()):
        for i in range(2):
            save_image(tmp_path / name / f"{i}.png", colour, seed=2 * seed + i, size=(400, 200))
    return read_images(AuditOptions(tmp_path), SILENT)


def draw(dataset, paths):
    return draw_thumbnails(dataset, paths, workers=2, allow_truncated=False, reporter=SILENT)


def width(address: str) -> int:
    return Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))).width


def test_draw_thumbnails__of_a_few_images_are_large(dataset):
    drawn = draw(dataset, dataset.index.paths)

    assert list(drawn) == list(dataset.index.paths)
    assert {width(address) for address in drawn.values()} == {256}


def test_draw_thumbnails__of_many_images_are_small(dataset, monkeypatch):
    monkeypatch.setattr(module, "_FEW", 2)

    assert {width(address) for address in draw(dataset, dataset.index.paths).values()} == {144}


def test_draw_thumbnails__are_those_of_the_first_images_that_fit(dataset, monkeypatch):
    sizes = [len(address) for address in draw(dataset, dataset.index.paths).values()]
    monkeypatch.setattr(module, "_ROOM", sum(sizes[:3]) + 1)

    assert list(draw(dataset, dataset.index.paths)) == list(dataset.index.paths[:3])


def test_draw_thumbnails__leave_out_what_has_changed(dataset):
    first, second, *_ = dataset.index.paths
    (dataset.index.root / first).write_bytes((dataset.index.root / second).read_bytes())

    assert list(draw(dataset, [first, second])) == [second]


def test_draw_thumbnails__leave_out_what_is_gone(dataset):
    first, second, *_ = dataset.index.paths
    (dataset.index.root / first).unlink()

    assert list(draw(dataset, [first, second])) == [second]
