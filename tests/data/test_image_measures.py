"""Measures of images: known values, what planted defects do to them, and the cache."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from transferkit.data import image_measures
from transferkit.data.image_measures import ImageMeasures, measure, measure_images, sharpness
from transferkit.reporter import SILENT


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def measured(image: Image.Image, kind: str = "PNG", **options) -> ImageMeasures:
    return ImageMeasures(*measure(encoded(image, kind, **options)))


def noise(size=(300, 280), low=0, high=256) -> Image.Image:
    pixels = np.random.default_rng(0).integers(low, high, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_sharpness__agrees_with_values_by_hand():
    spot = np.zeros((3, 4), dtype=np.float32)
    spot[1, 1] = 10.0

    assert sharpness(np.full((5, 5), 99, dtype=np.float32)) == 0
    assert sharpness(spot) == np.var([-40, 10])
    assert sharpness(np.ones((2, 9), dtype=np.float32)) == 0


def test_measure__of_one_colour():
    found = measured(Image.new("RGB", (30, 20), (10, 20, 30)))

    assert (found.width, found.height, found.quantization) == (30, 20, 0)
    assert (found.red, found.green, found.blue) == (10, 20, 30)
    assert (found.contrast, found.sharpness) == (0, 0)
    assert found.highlights == found.shadows == 18


def test_measure__tells_planted_defects():
    good = measured(noise())
    dark = measured(noise(high=26))
    blurred = measured(noise().filter(ImageFilter.GaussianBlur(4)))

    assert dark.highlights < 30 < 150 < good.highlights
    assert blurred.sharpness < good.sharpness / 1000


def test_measure__sees_large_images_at_one_size():
    image = noise((64, 64)).resize((256, 256), Image.Resampling.BICUBIC)
    large = image.resize((1024, 1024), Image.Resampling.BICUBIC)

    assert measured(large).sharpness == pytest.approx(measured(image).sharpness, rel=0.2)


def test_measure__tells_how_the_file_is_stored():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = measured(noise(), "JPEG", exif=exif)
    coarse, fine = (measured(noise(), "JPEG", quality=quality) for quality in (30, 95))

    assert (turned.width, turned.height) == (280, 300)
    assert coarse.quantization > 4 * fine.quantization > 0
    assert coarse.bytes_per_pixel < fine.bytes_per_pixel
    assert measured(noise()).format != fine.format


def test_measure_images__reads_each_content_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFERKIT_CACHE", str(tmp_path / "cache"))
    files, names = [tmp_path / f"{i}.png" for i in range(3)], ["aa" * 32, "bb" * 32, "aa" * 32]
    for file, width in zip(files, (20, 30, 20), strict=True):
        file.write_bytes(encoded(noise((width, 10))))
    read = []
    real = image_measures.read_bytes
    monkeypatch.setattr(image_measures, "read_bytes", lambda f: read.append(f) or real(f))

    first = measure_images(files, names, workers=1, reporter=SILENT, remember=True)
    again = measure_images(files, names, workers=1, reporter=SILENT, remember=True)

    assert first.width.tolist() == again.width.tolist() == [20, 30, 20]
    assert len(read) == 2


def test_measure_images__has_no_values_of_an_image_that_is_gone(tmp_path):
    (tmp_path / "1.png").write_bytes(encoded(noise((20, 10))))
    files = [tmp_path / "1.png", tmp_path / "2.png"]
    found = measure_images(files, ["a", "b"], workers=1, reporter=SILENT)

    assert np.isnan(found.width).tolist() == [False, True]
