"""Images that a page shows: upright, and the ones that were measured."""

import hashlib

from PIL import Image

from transferkit.report.evidence import Album


def test_album__turns_an_image_upright_and_gives_none_that_is_another(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 20), "red").save(tmp_path / "turned.jpg", exif=exif)
    digest = hashlib.sha256((tmp_path / "turned.jpg").read_bytes()).hexdigest()
    shown = Album(tmp_path, {"turned.jpg": digest}, allow_truncated=False).read("turned.jpg")

    assert shown is not None
    assert shown.size == (20, 60)
    other = Album(tmp_path, {"turned.jpg": "other"}, allow_truncated=False)
    assert other.read("turned.jpg") is None
