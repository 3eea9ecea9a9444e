"""The index: images for validation are joined to those for training."""

import pytest
from image_files import make_classes, save_image

from transferkit.data.label_table import TableReading
from transferkit.data.scan import locate, scan
from transferkit.errors import DataError


def test_with_validation__joins_two_folders(tmp_path):
    make_classes(tmp_path / "a", 2)
    save_image(tmp_path / "b" / "red" / "new.png", (200, 0, 0), seed=5)

    index = scan(tmp_path / "a").with_validation(scan(tmp_path / "b"))

    assert index.splits == ("train",) * 6 + ("val",)
    assert index.labels[-1] == 2
    assert index.files[-1].resolve() == tmp_path / "b/red/new.png"


def test_with_validation__finds_its_files_beyond_a_link(tmp_path):
    """If both sides of a link have the same names, the images are those of the folder given."""
    make_classes(tmp_path / "elsewhere" / "data", 2)
    save_image(tmp_path / "elsewhere" / "val" / "red" / "1.png", (0, 0, 0), seed=1)
    save_image(tmp_path / "here" / "val" / "red" / "1.png", (200, 0, 0), seed=2)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere" / "data")

    index = scan(tmp_path / "here/link").with_validation(scan(tmp_path / "here/val"))

    assert index.files[-1].resolve() == tmp_path / "here/val/red/1.png"


def test_with_validation__refuses_classes_that_training_lacks(tmp_path):
    make_classes(tmp_path / "a", 2)
    save_image(tmp_path / "b" / "purple" / "new.png", (200, 0, 0), seed=5)

    with pytest.raises(DataError, match=r"has classes that .*a lacks: purple"):
        scan(tmp_path / "a").with_validation(scan(tmp_path / "b"))


def test_with_validation__joins_two_tables_of_one_folder(tmp_path):
    make_classes(tmp_path, 2)
    lines = ["path,label,group", *(f"{c}/0.png,{c},p" for c in ("red", "blue"))]
    (tmp_path / "train.csv").write_text("\n".join(lines))
    lines = ["path,label,group", "red/1.png,red,q", f"{tmp_path}/blue/1.png,blue,r"]
    (tmp_path / "val.csv").write_text("\n".join(lines))
    reading = TableReading(group=None)

    train, val = (scan(tmp_path / name, reading=reading) for name in ("train.csv", "val.csv"))
    index = train.with_validation(val)

    assert index.paths == ("blue/0.png", "red/0.png", "blue/1.png", "red/1.png")
    assert (index.splits, index.groups) == (("train", "train", "val", "val"), ("p", "p", "r", "q"))
    assert all(file.is_file() for file in index.files)
    with pytest.raises(DataError, match="2 images are for training and for validation: blue/0"):
        train.with_validation(train)
    with pytest.raises(DataError, match=r"has groups, and .* has none; name those of both with"):
        train.with_validation(scan(tmp_path / "val.csv"))


def test_with_validation__finds_images_of_a_table_wherever_they_are(tmp_path):
    make_classes(tmp_path / "a", 1)
    make_classes(tmp_path / "c", 1)
    away = [f"{tmp_path}/c/red/0.png", "s3://bucket/blue.png", "../c/green/0.png"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b/val.csv").write_text("\n".join(["path,label", *(f"{one},red" for one in away)]))

    index = scan(tmp_path / "a").with_validation(scan(tmp_path / "b/val.csv"))

    assert index.paths[3:] == ("../b/../c/green/0.png", away[0], away[1])
    for found, file in zip(locate(tmp_path / "a", index.paths), index.files, strict=True):
        assert found == file or found.samefile(file)
