"""Scanning: which files are images of which class, and what is left out."""

import pytest
from image_files import make_classes, save_image

from transferkit.data.index import scan
from transferkit.errors import DataError
from transferkit.reporter import LeftOut


def reasons(index):
    return {item.path: item.reason for item in index.left_out}


def test_scan__lists_images_sorted_by_path(tmp_path):
    for name in ("b/10.png", "b/9.png", "a/x/deep.PNG", "B/1.png"):
        save_image(tmp_path / name, (1, 2, 3), seed=0)

    index = scan(tmp_path)

    assert index.class_names == ("B", "a", "b")
    assert index.paths == ("B/1.png", "a/x/deep.PNG", "b/10.png", "b/9.png")
    assert index.labels.tolist() == [0, 1, 2, 2]


def test_scan__names_what_it_leaves_out(tmp_path):
    make_classes(tmp_path, 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "red" / "notes.txt").write_text("x")
    (tmp_path / "red" / ".hidden.png").write_bytes(b"x")
    (tmp_path / "red" / ".thumbs").mkdir()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "loose.png").write_bytes(b"x")
    (tmp_path / "labels.csv").write_text("x")

    index = scan(tmp_path)

    assert index.class_names == ("blue", "green", "red")
    assert reasons(index) == {
        "empty": "no images in it",
        "red/notes.txt": "not an image",
        "red/.hidden.png": "hidden",
        "red/.thumbs": "hidden",
        ".ipynb_checkpoints": "hidden",
        "loose.png": "not in a class folder",
        "labels.csv": "not an image",
    }


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_scan__reads_a_dataset_that_is_already_split(tmp_path, val):
    make_classes(tmp_path / "train", 2)
    make_classes(tmp_path / val, 1)
    make_classes(tmp_path / "test", 1)

    index = scan(tmp_path)

    assert index.class_names == ("blue", "green", "red")
    assert [index.splits.count(name) for name in ("train", "val", "test")] == [6, 3, 3]


def test_scan__a_class_called_test_is_a_class(tmp_path):
    for name in ("test", "train", "bus"):
        save_image(tmp_path / name / "1.png", (1, 2, 3), seed=0)

    assert scan(tmp_path).class_names == ("bus", "test", "train")


def test_scan__refuses_images_beside_a_split(tmp_path):
    make_classes(tmp_path / "train", 1)
    make_classes(tmp_path / "val", 1)
    (tmp_path / "__MACOSX").mkdir()
    assert len(scan(tmp_path)) == 6
    save_image(tmp_path / "extra" / "1.png", (1, 2, 3), seed=0)

    with pytest.raises(DataError, match="has extra with images beside train, val"):
        scan(tmp_path)


def test_scan__reads_train_alone(tmp_path):
    make_classes(tmp_path / "train", 2)

    assert set(scan(tmp_path).splits) == {"train"}


def test_scan__refuses_a_split_named_twice(tmp_path):
    for name in ("train", "val", "valid"):
        make_classes(tmp_path / name, 1)

    with pytest.raises(DataError, match=r"names a part twice \(train, val, valid\)"):
        scan(tmp_path)


def test_scan__gives_no_image_a_second_label_through_a_link(tmp_path):
    make_classes(tmp_path, 1)
    (tmp_path / "red" / "up").symlink_to(tmp_path)
    (tmp_path / "red" / "sibling").symlink_to(tmp_path / "blue")
    (tmp_path / "same").symlink_to(tmp_path / "green")

    index = scan(tmp_path)

    assert index.paths == ("blue/0.png", "green/0.png", "red/0.png")
    assert {path for path in reasons(index)} == {"red/up", "red/sibling", "same"}


def test_without__drops_a_class_that_has_no_image_left(tmp_path):
    index = scan(make_classes(tmp_path, 1))

    kept = index.without((LeftOut("blue/0.png", "broken", unreadable=True),))

    assert kept.class_names == ("green", "red")
    assert kept.labels.tolist() == [0, 1]
    assert kept.left_out[-1].path == "blue"


def test_scan__follows_links_once(tmp_path):
    make_classes(tmp_path / "data", 1)
    save_image(tmp_path / "elsewhere" / "2.png", (1, 2, 3), seed=0)
    (tmp_path / "data/red/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/red/loop").symlink_to(tmp_path / "data/red")

    index = scan(tmp_path / "data")

    assert "red/linked/2.png" in index.paths
    assert reasons(index) == {"red/loop": "a link to a folder already read"}


def test_scan__names_a_folder_without_permission(tmp_path, secret):
    make_classes(tmp_path, 1)
    save_image(tmp_path / "red" / "secret" / "1.png", (1, 2, 3), seed=0)
    assert scan(tmp_path).left_out == (LeftOut("red/secret", "permission denied", unreadable=True),)


def test_scan__says_what_is_wrong_with_a_folder(tmp_path):
    with pytest.raises(DataError, match="no such folder with one subfolder of images per class"):
        scan(tmp_path / "nothing")
    with pytest.raises(DataError, match="no images in it; expected one subfolder per class"):
        scan(tmp_path)
    save_image(tmp_path / "loose.png", (1, 2, 3), seed=0)
    with pytest.raises(DataError, match=r"its images \(loose.png\) are not in class folders"):
        scan(tmp_path)
    with pytest.raises(DataError, match="is a file, expected a folder"):
        scan(tmp_path / "loose.png")


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
