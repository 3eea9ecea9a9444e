"""Groups: found in paths or a table, and kept on one side of every split."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transferkit.data.groups import (
    grouped_folds,
    groups_by_pattern,
    groups_from_table,
    hold_out_groups,
    number_together,
)
from transferkit.data.scan import scan
from transferkit.errors import DataError


@pytest.fixture
def index(tmp_path):
    for path in ("a/p1_x.jpg", "a/p2_x.jpg", "b/p1_y.jpg", "b/p10_y.jpg"):
        (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / path).touch()
    return scan(tmp_path / "data")


def test_groups_by_pattern__takes_the_first_group_of_each_path(index):
    assert groups_by_pattern(index, re.compile(r"/p(\d+)_")) == ("1", "2", "10", "1")
    with pytest.raises(DataError, match=r"is not found in 3 of 4 paths .*a/p1_x\.jpg"):
        groups_by_pattern(index, re.compile(r"(p10)"))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_groups_from_table__reads_csv_and_parquet(index, tmp_path, suffix):
    groups = ["07", "8", "07", "9"]
    file = tmp_path / f"groups.{suffix}"
    if suffix == "csv":
        rows = [f"{p},{g}" for p, g in zip(index.paths, groups, strict=True)]
        file.write_text("path,group\n" + "\n".join([*rows, "gone.jpg,1"]))
    else:
        pq.write_table(pa.table({"group": groups, "path": list(index.paths)}), file)

    assert groups_from_table(index, file) == tuple(groups)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,patient\na/p1_x.jpg,1\n", "no column group; it has path, patient; expected the"),
        ("path,group\na/p1_x.jpg,1\n", r"has no group for 3 of 4 images: a/p2_x\.jpg"),
        ("path,group\na/p1_x.jpg,1\na/p1_x.jpg,2\n", r"a/p1_x\.jpg is in two groups, 1 and 2"),
        ("", "has no column path; it is empty; expected the columns path and group"),
        ("path,group\n", "has no group for 4 of 4 images"),
        (None, "cannot be read as a table"),
    ],
)
def test_groups_from_table__says_what_is_wrong(index, tmp_path, content, message):
    if content is not None:
        (tmp_path / "groups.csv").write_text(content)

    with pytest.raises(DataError, match=message):
        groups_from_table(index, tmp_path / "groups.csv")


def test_number_together__joins_copies_and_groups():
    copies = np.array([0, 1, 1, 3, 4])  # images 1 and 2 are copies

    numbers = number_together(copies, ("p", "p", "q", "r", "r"))

    assert numbers[0] == numbers[1] == numbers[2] != numbers[3]
    assert numbers[3] == numbers[4]


LABELLED_GROUPS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), min_size=4, max_size=60)


@settings(deadline=None)
@given(rows=LABELLED_GROUPS, share=st.floats(0.05, 0.9), seed=st.integers(0, 5))
def test_hold_out_groups__divides_no_group_and_empties_no_class(rows, share, seed):
    labels, groups = (np.array(column) for column in zip(*rows, strict=True))
    try:
        held_out = hold_out_groups(labels, groups, share, seed)
    except DataError:
        only = [set(groups[labels == label].tolist()) for label in np.unique(labels)]
        fewer = len(np.unique(groups)) < 2 or np.bincount(labels).max() < 2
        assert fewer or any(len(found) == 1 for found in only)
        return

    kept = np.setdiff1d(np.arange(len(labels)), held_out)
    assert len(held_out)
    assert not set(groups[held_out]) & set(groups[kept])
    assert set(labels[kept]) == set(labels)


def test_hold_out_groups__takes_about_the_share_of_every_class():
    groups = np.repeat(np.arange(50), 4)
    labels = groups % 2

    held_out = hold_out_groups(labels, groups, 0.2, seed=0)

    assert len(held_out) == 40
    assert labels[held_out].sum() == 20
    assert np.array_equal(held_out, hold_out_groups(labels, groups, 0.2, seed=0))


def test_grouped_folds__refuses_too_few_groups():
    with pytest.raises(DataError, match="got 1 groups of 4 images, expected 2 or more to divide"):
        grouped_folds(np.array([0, 1, 0, 1]), np.zeros(4, dtype=np.int64), 2, seed=0)
