"""Decoding: every file becomes upright RGB, or gives the reason why it cannot."""

import csv
import io
import struct
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageCms

from transferkit.data import images
from transferkit.data.images import ImageError, decode_image, read_image, stored_form
from transferkit.data.preprocessing import Preprocessing
from transferkit.data.transforms import eval_transform

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
def test_decode_image__converts_every_mode_to_rgb(mode, colour, kind, expected):
    image = Image.new(mode, (4, 3), colour)
    if mode == "F":
        image.putpixel((3, 2), 1.0 if colour < 1 else 255.0)
    assert corner(encoded(image, kind)) == expected


def test_decode_image__lays_a_transparent_palette_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putdata([0, 1])

    decoded = decode_image(encoded(image, "PNG", transparency=0))

    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 200)]


def test_decode_image__of_an_animation_takes_the_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime")]

    assert corner(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_image__turns_every_exif_orientation_upright(orientation):
    """An image stored in any orientation decodes to the same upright image."""
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
        (b"plain text, no image", "not an image in a known format"),
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
    """Whatever Pillow opens can be read; the rest raises ImageError and nothing else."""
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


def test_decode_image__converts_colour_profiles_to_srgb():
    """CIE Lab is converted back; a damaged profile is ignored."""
    lab = ImageCms.createProfile("LAB")
    image = Image.new("RGB", (8, 8), (200, 100, 50))
    in_lab = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    back = corner(encoded(in_lab, "TIFF"))
    assert np.abs(np.subtract(back, (200, 100, 50))).max() <= 2
    assert corner(encoded(image, "PNG", icc_profile=srgb)) == (200, 100, 50)
    assert corner(encoded(image, "PNG", icc_profile=b"no profile")) == (200, 100, 50)


def test_decode_image__applies_a_wide_gamut_profile():
    """The same numbers mean stronger colours in Adobe RGB than in sRGB."""
    profile = wide_gamut()
    image = Image.new("RGB", (8, 8), (60, 160, 60))

    plain, converted = (
        corner(encoded(image, "JPEG", quality=100, **extra))
        for extra in ({}, {"icc_profile": profile})
    )

    assert converted[1] - converted[0] > plain[1] - plain[0] + 20


@pytest.mark.parametrize("adobe", [True, False], ids=["with the marker", "without"])
def test_decode_image__reads_cmyk_jpegs_with_and_without_adobes_marker(adobe):
    """Adobe's programs invert the inks and add their marker; others do neither."""
    inks = Image.new("CMYK", (16, 16), (0, 200, 200, 0))  # a red
    data = encoded(inks if adobe else ImageChops.invert(inks), "JPEG", quality=95)
    assert b"Adobe" in data
    if not adobe:
        start = data.index(b"\xff\xee")
        data = data[:start] + data[start + 16 :]

    red, green, blue = corner(data)

    assert red > 200
    assert green < 90
    assert blue < 90


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_decode_image__applies_the_exif_orientation_in_every_format(kind):
    stored = Image.new("RGB", (8, 4), "red")
    stored.paste("blue", (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6

    decoded = decode_image(encoded(stored, kind, exif=exif))

    assert decoded.size == (4, 8)
    assert decoded.getpixel((1, 1))[2] > 150


def test_decode_image__reads_a_truncated_jpeg_only_if_allowed():
    whole = encoded(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")
    cut = whole[: len(whole) // 2]

    with pytest.raises(ImageError, match="truncated"):
        decode_image(cut)
    decoded = decode_image(cut, allow_truncated=True)

    assert decoded.size == (64, 64)
    above = np.asarray(decode_image(whole))[:16]
    assert (np.asarray(decoded)[:16] == above).all()
    assert np.asarray(decoded)[-8:].std() < 3
    with pytest.raises(ImageError):
        decode_image(b"\xff\xd8\xff", allow_truncated=True)


def test_decode_image__reduces_a_huge_jpeg_and_refuses_others(monkeypatch):
    """The limits are lowered, because testing the real ones would take a gigabyte."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000)
    monkeypatch.setattr(images, "MAX_PIXELS", 10_000)
    image = Image.effect_noise((400, 300), 50)

    assert decode_image(encoded(image, "JPEG")).size == (50, 38)
    with pytest.raises(ImageError, match="400 x 300 pixels, more than the 0 million"):
        decode_image(encoded(image, "JPEG", progressive=True))
    with pytest.raises(ImageError, match="decompression bomb"):
        decode_image(encoded(image, "PNG"))


def test_decode_image__scales_by_the_bit_depth_of_a_tiff(shared):
    """12 bits are scaled by 4095; scaled by 65535, the image would be black."""
    decoded = np.asarray(read_image(shared / "data" / "hostile" / "12bit.cropped.tif"))

    assert decoded.max() == 2  # 30 of 4095


def test_decode_image__names_the_package_that_reads_heif(shared, monkeypatch):
    data = (shared / "data" / "hostile" / "hopper.heif").read_bytes()
    if HEIF:
        assert decode_image(data).size == (128, 128)
    monkeypatch.setattr(images, "_openable_formats", lambda: ("JPEG",))
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)

    with pytest.raises(ImageError, match="install the package pillow-heif to read it"):
        decode_image(data)


def wide_gamut() -> bytes:
    """Return an ICC profile of Adobe RGB, built from its matrix, white point and gamma."""

    def fixed(*values):
        return b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    def text(words):
        return b"desc" + bytes(4) + struct.pack(">I", len(words) + 1) + words + bytes(79)

    def xyz(*values):
        return b"XYZ " + bytes(4) + fixed(*values)

    tags = {
        b"desc": text(b"wide"),
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": xyz(0.14919, 0.06322, 0.74457),
    }
    gamma = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256)) + bytes(2)
    tags |= {name: gamma for name in (b"rTRC", b"gTRC", b"bTRC")}
    table, body, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        padded = value + bytes(-len(value) % 4)
        table += name + struct.pack(">II", offset + len(body), len(value))
        body += padded
    head = bytes(4) + b"lcms" + struct.pack(">I", 0x02400000) + b"mntrRGB XYZ " + bytes(12)
    head += b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    head += bytes(128 - len(head))
    whole = head + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def smooth(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(("side", "needed", "expected"), [
    (4000, 256, 512 - 12), (1600, 256, 800), (1000, 256, 1000), (3000, None, 3000),
])  # fmt: skip
def test_decode_image__drops_pixels_that_are_not_needed(tmp_path, side, needed, expected):
    smooth(side, side).save(tmp_path / "a.jpg")
    decoded = decode_image((tmp_path / "a.jpg").read_bytes(), needed)

    assert decoded.size in {(expected, expected), (side // 4, side // 4)}
    assert needed is None or min(decoded.size) >= 2 * needed or decoded.size == (side, side)


def test_decode_image__with_fewer_pixels_gives_nearly_the_same_view(tmp_path):
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


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_stored_pixels__are_those_of_the_header(kind):
    assert images.stored_pixels(encoded(Image.new("RGB", (30, 20)), kind)) == 600


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 20])
def test_stored_pixels__of_no_image_are_none(data):
    assert images.stored_pixels(data) == 0


def test_stored_form__reads_format_size_and_quantization_from_the_header():
    image = Image.new("RGB", (30, 20))
    tables = {0: [8] * 64, 1: [16] * 64}

    png, jpeg = (stored_form(encoded(image, k, qtables=tables)) for k in ("PNG", "JPEG"))

    assert (png.format, png.size, png.quantization) == ("PNG", (30, 20), 0)
    assert (jpeg.format, jpeg.size, jpeg.quantization) == ("JPEG", (30, 20), 8)


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 20])
def test_stored_form__of_no_image_is_an_image_error(data):
    with pytest.raises(ImageError):
        stored_form(data)
