"""`transferkit extract-features`: its line of output, and its exit code."""

from image_files import make_classes
from tiny_backbone import TINY


def test_extract_features__says_what_it_wrote(cli, image_folder, tmp_path):
    ran = cli("extract-features", image_folder, *TINY, "-o", tmp_path / "f.csv")

    assert ran == (0, f"{tmp_path}/f.csv: 24 images x 96 features of test_resnet\n", "")


def test_extract_features__exits_with_3_if_an_image_was_left_out(cli, tmp_path):
    data = make_classes(tmp_path / "data", 2)
    (data / "red" / "0.png").write_bytes(b"")

    ran = cli("extract-features", data, *TINY, "-o", tmp_path / "f.npz")

    assert ran.code == 3
    assert ran.err == "left out: red/0.png: an empty file\n"
