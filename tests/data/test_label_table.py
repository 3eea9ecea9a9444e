"""Tables of labels: columns by their usual names, one label for each path, and errors."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transferkit.data.label_table import NO_COLUMN, LabelledPath, TableReading, read_label_table
from transferkit.errors import DataError
from transferkit.places import Url
from transferkit.reporter import LeftOut


def write(tmp_path, *lines) -> Path:
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "labels.csv"


def read(tmp_path, *lines, **reading):
    return read_label_table(write(tmp_path, *lines), TableReading(**reading))


def paths(table):
    return [row.path for row in table.rows]


def test_read_label_table__takes_the_usual_columns(tmp_path):
    table = read(
        tmp_path, "id,Filename,class,SPLIT,group", "7,b.jpg,cat,Valid,p", "8,a.jpg, dog ,,q"
    )

    assert table.rows == (
        LabelledPath("a.jpg", "dog", "", ""),
        LabelledPath("b.jpg", "cat", "val", ""),
    )
    assert table.root == tmp_path
    assert table.described == (
        "table labels.csv: path from Filename, label from class, split from SPLIT"
    )


def test_read_label_table__takes_the_columns_that_are_named(tmp_path):
    lines = ["path,where,label,what,split,part,film", "x,a.jpg,1,cat,odd,test,9"]
    named = {"path": "where", "label": "what", "split": "part", "group": "film"}

    assert read(tmp_path, *lines, **named).rows == (LabelledPath("a.jpg", "cat", "test", "9"),)
    one = read(tmp_path, *lines, split=NO_COLUMN, group=None).rows[0]
    assert one == LabelledPath("x", "1", "", "")


def test_read_label_table__prefers_the_first_usual_name(tmp_path):
    table = read(tmp_path, "file,path,category,label", "x,a.jpg,y,cat", "x,b.jpg,y,cat", "")

    assert [(row.path, row.label) for row in table.rows] == [("a.jpg", "cat"), ("b.jpg", "cat")]


def test_read_label_table__reads_numbers_of_parquet_as_text(tmp_path):
    pq.write_table(pa.table({"path": ["a", "b"], "label": [10, 9]}), tmp_path / "labels.parquet")

    table = read_label_table(tmp_path / "labels.parquet", TableReading())

    assert [row.label for row in table.rows] == ["10", "9"]


def test_read_label_table__writes_paths_as_a_folder_has_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside, outside = tmp_path / "photos/c/1.jpg", "/elsewhere/2.jpg"
    given = ["./a//1.jpg", "b/../b/2.jpg", str(inside), outside, "s3://bucket/3.jpg"]

    table = read(tmp_path, "path,label", *(f"{one},x" for one in given), root=Path("photos"))

    assert paths(table) == [outside, "a/1.jpg", "b/../b/2.jpg", "c/1.jpg", "s3://bucket/3.jpg"]
    stored = read(tmp_path, "path,label", "s3://b/x/1.jpg,x", "2.jpg,x", root=Url("s3://b/x"))
    assert paths(stored) == ["1.jpg", "2.jpg"]


def test_read_label_table__uses_a_path_once_that_is_named_again(tmp_path):
    table = read(tmp_path, "path,label", "a.jpg,cat", "b.jpg,cat", "./a.jpg,cat", "a.jpg,cat")

    assert paths(table) == ["a.jpg", "b.jpg"]
    assert table.left_out == (LeftOut("a.jpg", "named again by the table, used once"),)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], r"has no column named path, filename, .*; it is empty; name the one that holds the"),
        (["path,label"], "has no rows; expected a path and a label in each"),
        (["a;b", "1;2"], r"has no column named path, .*; it has a;b; name .* with --path-column"),
        (["path,x,y"], r"has no column named label, .*; it has path, x, y; .* --label-column"),
        (["file,image,label"], "its columns file, image may each hold the path; name one with"),
        (["path,label", "a.jpg,x", ",x", ",y"], "has no path in 2 of 3 rows: row 2, row 3; fill"),
        (["path,label", "a.jpg,x", "b.jpg, "], r"has no label in 1 of 2 rows: b\.jpg; fill them"),
        (["path,label", "a.jpg,x", "./a.jpg,y"], r"1 rows contradict .*: a\.jpg \(x and y\); keep"),
        (
            ["path,label,split", "a.jpg,x,train", "a.jpg,x,test"],
            r"contradict another row of the same image: a\.jpg \(train and test\)",
        ),
        (
            ["path,label,split", "a.jpg,x,0", "b.jpg,x,train"],
            "column split holds 0, expected parts of a split such as .* --split-column, or none",
        ),
    ],
)  # fmt: skip
def test_read_label_table__says_what_is_wrong(tmp_path, lines, message):
    with pytest.raises(DataError, match=rf"labels\.csv: .*{message}"):
        read(tmp_path, *lines)


def test_read_label_table__names_the_columns_there_are_if_one_is_missing(tmp_path):
    lines = ["path,label,group", "a.jpg,x,"]

    with pytest.raises(DataError, match="no column breed; it has path, label, group; name one of"):
        read(tmp_path, *lines, label="breed")
    with pytest.raises(DataError, match=r"no column fold; .* with --split-column"):
        read(tmp_path, *lines, split="fold")
    with pytest.raises(DataError, match=r"no group in 1 of 1 rows: a\.jpg; .*--group-column none"):
        read(tmp_path, *lines, group=None)


def test_read_label_table__refuses_labels_that_are_no_utf_8(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_bytes(b"path,label\na.jpg,caf\xe9\n")

    with pytest.raises(DataError, match=r"'caf\\udce9' in the column label is not UTF-8; save"):
        read_label_table(file, TableReading())


def test_read_label_table__stays_at_a_root_that_is_the_whole_disk(tmp_path):
    table = read(tmp_path, "path,label", f"{os.sep}a{os.sep}1.jpg,x", root=Path(os.sep))

    assert paths(table) == ["a/1.jpg"]
