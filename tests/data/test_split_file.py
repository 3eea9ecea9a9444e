"""A split is written, read back and reused; errors name images that have changed since."""

from pathlib import Path

import numpy as np
import pytest
from image_files import make_classes, save_image

import transferkit
from transferkit.data.index import ImageIndex
from transferkit.data.split_file import recorded_splits
from transferkit.errors import DataError, OptionError
from transferkit.reporter import LeftOut
from transferkit.tables import write_csv

SMALL = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "epochs": 1}
NAMES = ("a/1.png", "a/two\nlines.png", "b/\udcff,\"'.png")


def index_of(paths, left_out=()):
    labels = np.array([ord(path[0]) - ord("a") for path in paths])
    return ImageIndex(Path("data"), tuple(paths), labels, ("a", "b"), ("",) * len(paths), left_out)


def write(path, rows, columns=("path", "label", "split", "sha256", "group")):
    write_csv(path, columns, rows)
    return path


def rows(splits=("train", "val", "test"), digests="xyz"):
    return [(p, p[0], s, d, d) for p, s, d in zip(NAMES, splits, digests, strict=True)]


def test_recorded_splits__are_read_back_for_any_name(tmp_path):
    file = write(tmp_path / "split.csv", rows())

    found = recorded_splits(file, index_of((*NAMES, "b/new.png")), "xyzw")

    assert found == {0: "train", 1: "val", 2: "test"}
    assert recorded_splits(tmp_path, index_of(NAMES), "xyz") == found


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("path,label\n", "has no column sha256, split"),
        ("", "has no column label, path, sha256, split"),
        ("path,label,split,sha256\na/1.png,a,training,x\n", "line 2 has the split 'training'"),
        ("path,label,split,sha256\na/1.png\n", "line 2 has the split None"),
        ('path,label,split,sha256\n"a/1.png,a,train,x\n', "is damaged"),
    ],
)
def test_recorded_splits__say_what_is_wrong_with_a_file(content, reason, tmp_path):
    (tmp_path / "split.csv").write_text(content)

    with pytest.raises(DataError, match=reason):
        recorded_splits(tmp_path / "split.csv", index_of(NAMES), "xyz")


def test_recorded_splits__name_what_is_missing_or_changed(tmp_path):
    file = write(tmp_path / "split.csv", rows())
    bad = (LeftOut("a/1.png", "an empty file", unreadable=True),)

    with pytest.raises(DataError, match=r"1 of its images are missing in data: a/1.png \(an empty"):
        recorded_splits(file, index_of(NAMES[1:], bad), "yz")
    with pytest.raises(DataError, match=r"1 of its images are changed in data: a/1.png;"):
        recorded_splits(file, index_of(NAMES), "wyz")
    with pytest.raises(DataError, match=r"no such file or directory; expected the split.csv"):
        recorded_splits(tmp_path / "elsewhere.csv", index_of(NAMES), "xyz")


def splits_of(run):
    lines = (run / "split.csv").read_text().splitlines()[1:]
    return {line.split(",")[0]: line.split(",")[2] for line in lines}


def test_finetune__reuses_a_split_and_divides_new_images(tmp_path):
    data = make_classes(tmp_path / "data", 6)
    transferkit.finetune(data, tmp_path / "first", seed=5, **SMALL)
    for i in range(6):
        save_image(data / "red" / f"new{i}.png", (10 * i, 0, 0), seed=50 + i)
    transferkit.finetune(data, tmp_path / "second", split=tmp_path / "first", **SMALL)
    first, second = splits_of(tmp_path / "first"), splits_of(tmp_path / "second")

    assert {path: second[path] for path in first} == first
    assert list(second.values()).count("val") == list(first.values()).count("val") + 1
    with pytest.raises(OptionError, match="leave out --val"):
        transferkit.finetune(data, split=tmp_path / "first", val=data, **SMALL)
