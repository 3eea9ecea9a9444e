"""Thumbnails: small, and made from a copy."""

from PIL import Image

from transferkit.report.thumbnails import thumbnail


def test_thumbnail__is_small_and_leaves_the_picture_alone():
    picture = Image.new("RGB", (800, 400), "red")
    address = thumbnail(picture)

    assert address.startswith("data:image/jpeg;base64,")
    assert len(address) < 2000
    assert picture.size == (800, 400)
