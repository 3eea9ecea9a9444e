"""Thumbnails are small and leave the image unchanged."""

from PIL import Image

from transferkit.report.thumbnails import thumbnail


def test_thumbnail__is_small_and_leaves_the_image_unchanged():
    image = Image.new("RGB", (800, 400), "red")
    address = thumbnail(image)

    assert address.startswith("data:image/jpeg;base64,")
    assert len(address) < 2000
    assert image.size == (800, 400)
