"""Names of classes as names of folders."""

import os

import pytest

from transferkit.data.class_names import folder_names


def test_folder_names__that_need_no_change_are_kept():
    names = ["cat", "Égyptien", "big dog", "a.b", "a-2", "\udcff"]

    assert folder_names(names, ["unsure"]) == {name: name for name in names}


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("a/b", "a_b"),
        ("a\\b", "a_b"),
        ("../../etc", "_._.._etc"),
        ("..", "_"),
        (".", "_"),
        ("", "_"),
        ("/", "_"),
        (".hidden", "_hidden"),
        ("nul\0l", "nul_l"),
        ("line\nbreak", "line_break"),
        ("what?", "what_"),
        ("trailing. ", "trailing"),
        ("CON", "_CON"),
        ("com1.old", "_com1.old"),
        ("constable", "constable"),
        ("\ud800", "_"),
        ("é" * 150, "é" * 100),
        ("a" * 199 + "é", "a" * 199),
    ],
)
def test_folder_names__that_a_file_system_would_refuse_are_changed(tmp_path, name, folder):
    assert folder_names([name], []) == {name: folder}
    (tmp_path / folder).mkdir()
    assert os.listdir(tmp_path) == [folder]


def test_folder_names__differ_from_each_other_and_from_reserved_ones():
    names = ["a/b", "a_b", "a_b-2", "Cat", "cat", "unsure", "Unreadable", "sorted.csv"]

    found = folder_names(names, ["unsure", "unreadable", "sorted.csv"])

    assert found == {
        "a_b": "a_b",
        "a_b-2": "a_b-2",
        "Cat": "Cat",
        "cat": "cat-2",
        "unsure": "unsure-2",
        "Unreadable": "Unreadable-2",
        "sorted.csv": "sorted.csv-2",
        "a/b": "a_b-3",
    }


def test_folder_names__of_one_class_twice_are_one_folder():
    assert folder_names(["crane", "crane"], []) == {"crane": "crane"}
