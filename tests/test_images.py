"""Decoding: every mode comes out as upright RGB, or as a reason."""

import csv
import io
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from transferkit.data.images import ImageError, decode_image, read_image

HEIF = find_spec("pillow_heif") is not None


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corner(data: bytes) -> tuple[int, int, int]:
    return decode_image(data).getpixel((0, 0))


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "expected"),
    [
        ("RGB", (10, 20, 30), "PNG", (10, 20, 30)),
        ("L", 77, "PNG", (77, 77, 77)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("LA", (77, 255), "PNG", (77, 77, 77)),
        ("RGBA", (10, 20, 30, 255), "PNG", (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), "PNG", (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), "TIFF", (255, 0, 0)),
        ("I;16", 65535, "PNG", (255, 255, 255)),
        ("I;16", 32768, "PNG", (128, 128, 128)),
        ("I;16", 0, "PNG", (0, 0, 0)),
        ("I;16", 255, "PNG", (1, 1, 1)),
        ("I", 200, "TIFF", (200, 200, 200)),
        ("I", 65535, "TIFF", (255, 255, 255)),
        ("F", 0.5, "TIFF", (128, 128, 128)),
        ("F", 127.0, "TIFF", (127, 127, 127)),
    ],
)
def test_decode_image__every_mode_becomes_rgb(mode, colour, kind, expected):
    image = Image.new(mode, (4, 3), colour)
    if mode == "F":
        image.putpixel((3, 2), 1.0 if colour < 1 else 255.0)
    assert corner(encoded(image, kind)) == expected


def test_decode_image__palette_with_transparency_is_laid_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putdata([0, 1])

    decoded = decode_image(encoded(image, "PNG", transparency=0))

    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 200)]


def test_decode_image__of_an_animation_takes_the_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime")]

    assert corner(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_image__all_exif_orientations_come_out_upright(orientation):
    """Each stored form of one picture, made by the inverse of its orientation, decodes the same."""
    upright = Image.new("RGB", (30, 20), "white")
    upright.paste("black", (0, 0, 15, 10))
    inverse = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for operation in inverse.get(orientation, []):
        stored = stored.transpose(operation)
    exif = Image.Exif()
    exif[0x0112] = orientation

    decoded = decode_image(encoded(stored, "PNG", exif=exif))

    assert np.array_equal(np.asarray(decoded), np.asarray(upright))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file"),
        (b"plain text, no picture", "not an image in a known format"),
        (b"%PDF-1.4 not opened, whatever pillow could do", "not an image in a known format"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:1200], "truncated"),
        (encoded(Image.effect_noise((64, 64), 50), "PNG")[:900], "truncated"),
    ],
)
def test_decode_image__says_why_it_cannot(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode_image(data)


def test_decode_image__refuses_a_decompression_bomb(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)

    with pytest.raises(ImageError, match="decompression bomb"):
        decode_image(encoded(Image.new("RGB", (15, 15)), "PNG"))


def test_read_image__names_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match="a folder without images"):
        read_image(tmp_path)


def test_read_image__of_hostile_files_agrees_with_the_manifest(shared):
    """What plain Pillow opens is opened; the others give a reason, never another exception."""
    folder = shared / "data" / "hostile"
    with (folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = []
    for row in rows:
        try:
            image = read_image(folder / row["file"])
            opened = image.mode == "RGB" and min(image.size) > 0
        except ImageError:
            opened = False
        readable = row["pil_convert_rgb_ok"] == "yes" or (HEIF and row["odd"] == "HEIF")
        if opened != readable:
            wrong.append(row["file"])

    assert len(rows) > 60
    assert wrong == []
