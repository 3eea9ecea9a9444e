"""Walking a folder: every file is found once, whatever links to it."""

from PIL import Image

from transferkit.data.walk import walk_images


def test_walk_images__skips_links_to_themselves(tmp_path):
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "up").symlink_to(".")
    Image.new("RGB", (3, 3)).save(tmp_path / "good.png")

    found = {item.path.name: item.reason for item in walk_images(tmp_path, set())}

    assert found == {"good.png": "", "self.jpg": "", "up": "a link to a folder already read"}
