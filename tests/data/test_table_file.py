"""Tables: columns of CSV and Parquet as text, and what cannot be read."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transferkit.data.table_file import is_table, read_columns
from transferkit.errors import DataError
from transferkit.places import Url


def read(file, *names):
    return read_columns(file, lambda found: names)


def test_is_table__goes_by_the_suffix_of_files(tmp_path):
    (tmp_path / "folder.csv").mkdir()

    assert is_table(tmp_path / "a.csv")
    assert is_table(Url("s3://bucket/a.PARQUET"))
    assert not is_table(tmp_path / "folder.csv")
    assert not is_table(tmp_path / "a.tar")


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.tsv", "\t"), ("a.txt", ",")])
def test_read_columns__reads_csv_as_spreadsheets_write_it(tmp_path, name, mark):
    lines = [f"a{mark} b {mark}c", f'1{mark}"x{mark}y"{mark}', "", f"2{mark}é"]
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())

    assert read(tmp_path / name, "b", "a") == [(f"x{mark}y", "1"), ("é", "2")]
    assert read(tmp_path / name, "c") == [("",), ("",)]


def test_read_columns__reads_parquet_and_only_what_it_is_asked_for(tmp_path):
    values = {"a": [1, None], "b": [0.5, float("nan")], "c": [True, False], "d": ["x", ""]}
    pq.write_table(pa.table(values | {"e": [[1], [2]]}), tmp_path / "a.parquet")

    found = read(tmp_path / "a.parquet", "d", "a", "b", "c", "d")

    assert found == [("x", "1", "0.5", "True", "x"), ("", "", "", "False", "")]
    with pytest.raises(DataError, match="the column e holds list, expected text or numbers"):
        read(tmp_path / "a.parquet", "e")


def test_read_columns__reads_names_of_files_that_are_no_utf_8(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a\ncaf\xe9.jpg\n")

    assert read(tmp_path / "a.csv", "a") == [("caf\udce9.jpg",)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", None, r"a\.csv: cannot be read as a table \(No such file or directory\)"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", r"line 3 has 3 values for 2 columns; put quotes around"),
        ("a.csv", 'a,b\n"1,2\n', r"cannot be read as a table \(unexpected end of data\)"),
        ("a.csv", "a,a\n1,2\n", "it has the column a twice"),
        ("a.parquet", "a\n1\n", r"a\.parquet: cannot be read as a table \(Parquet file size"),
    ],
)
def test_read_columns__says_what_is_wrong(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)

    with pytest.raises(DataError, match=message):
        read(tmp_path / name, "a")


def test_read_columns__ignores_commas_at_the_end_of_lines(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2,,\n")

    assert read(tmp_path / "a.csv", "b") == [("2",)]
