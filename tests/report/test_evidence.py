"""Images that a page shows: upright, and only if unchanged since the run."""

import hashlib

from PIL import Image

from transferkit.report.evidence import RecordedImages


def test_recorded_images__are_upright_and_none_if_changed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 20), "red").save(tmp_path / "turned.jpg", exif=exif)
    digest = hashlib.sha256((tmp_path / "turned.jpg").read_bytes()).hexdigest()
    images = RecordedImages({"turned.jpg": digest}, allow_truncated=False)
    shown = images.read("turned.jpg", tmp_path / "turned.jpg")

    assert shown is not None
    assert shown.size == (20, 60)
    changed = RecordedImages({"turned.jpg": "other"}, allow_truncated=False)
    assert changed.read("turned.jpg", tmp_path / "turned.jpg") is None
