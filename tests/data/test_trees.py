"""Listings of names, looked up as folders are."""

from pathlib import PurePosixPath

import pytest
from image_files import make_classes

from transferkit.data.trees import LOCAL, ROOT, Entry, ListedTree


def test_a_listing__has_the_folders_that_its_paths_name():
    tree = ListedTree(["a/b/1.jpg", "a/2.jpg", "3.jpg"])

    assert set(tree.entries(ROOT)) == {Entry("a", True), Entry("3.jpg", False)}
    assert set(tree.entries(PurePosixPath("a"))) == {Entry("b", True), Entry("2.jpg", False)}
    with pytest.raises(FileNotFoundError, match="No such file"):
        list(tree.entries(PurePosixPath("c")))


def test_a_name_of_both_a_file_and_a_folder__is_a_folder():
    """Object stores allow both."""
    for paths in (["a", "a/1.jpg"], ["a/1.jpg", "a"]):
        assert list(ListedTree(paths).entries(ROOT)) == [Entry("a", True)]


def test_a_listing__has_the_entries_of_the_folder_it_lists(tmp_path):
    make_classes(tmp_path, 2)
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")]
    tree = ListedTree(files)

    assert set(tree.entries(ROOT)) == set(LOCAL.entries(tmp_path))
    red = set(LOCAL.entries(tmp_path / "red"))
    assert set(tree.entries(PurePosixPath("red"))) == red
