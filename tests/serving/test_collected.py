"""Marked images as a dataset: named by content, one class each, and listed."""

import csv
import hashlib

import pytest
from served import picture

from transferkit.data.scan import scan
from transferkit.errors import OutputError
from transferkit.serving.collected import MARKS, CollectedImages


def collected(folder, *names):
    return CollectedImages(folder, names or ("red", "blue"), "model-digest")


def files_in(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("png", "png"), ("jpeg", "jpg"), ("bmp", "bmp"), ("webp", "webp"), ("tiff", "tif"),
     ("gif", "gif"), ("jpeg2000", "jp2"), ("ppm", "ppm")],
)  # fmt: skip
def test_keep__names_the_file_by_its_content_so_that_a_dataset_takes_it(tmp_path, kind, suffix):
    data = picture(kind=kind)

    file = collected(tmp_path).keep(data, "red", "blue")

    assert file == f"red/{hashlib.sha256(data).hexdigest()}.{suffix}"
    assert (tmp_path / file).read_bytes() == data
    assert scan(tmp_path).paths == (file,)


def test_keep__lists_each_mark(tmp_path):
    images = collected(tmp_path)
    images.keep(picture("red"), "red", "blue")
    images.keep(picture("blue"), "blue", "blue")

    with (tmp_path / MARKS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["predicted"], row["label"], row["model"]) for row in rows] == [
        ("blue", "red", "model-digest"), ("blue", "blue", "model-digest"),
    ]  # fmt: skip
    assert rows[0]["sha256"] == hashlib.sha256(picture("red")).hexdigest()
    assert rows[0]["time"] <= rows[1]["time"]


def test_an_image_that_is_marked_again__moves_to_its_new_class(tmp_path):
    images = collected(tmp_path)
    for label in ("red", "blue", "blue"):
        file = images.keep(picture(), label, "red")

    assert files_in(tmp_path) == sorted([file, MARKS])
    assert len((tmp_path / MARKS).read_text().splitlines()) == 4


def test_folders__of_odd_classes_are_names_that_file_systems_take(tmp_path):
    images = collected(tmp_path, "../up", "a/b", ".", "marks.csv", "plain")

    for label in images.class_names:
        images.keep(picture(), label, "plain")
        (file,) = set(files_in(tmp_path)) - {MARKS}
        assert (tmp_path / file).resolve().parent.parent == tmp_path.resolve()


def test_a_folder_that_cannot_be_written__is_told(tmp_path):
    (tmp_path / "red").write_bytes(b"in the way")

    with pytest.raises(OutputError, match="cannot write"):
        collected(tmp_path).keep(picture(), "red", "blue")
