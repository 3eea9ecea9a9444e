"""Copies are named group by group, with what makes them harmful; so are unreadable images."""

from made_dataset import made_dataset

from transferkit.recipes.auditing.find_copies import find_copies, find_unreadable
from transferkit.tables.audit_findings import Kind


def test_find_copies__names_each_image_of_a_group_and_the_others():
    dataset = made_dataset([0, 0, 0, 1], copies=[0, 1, 0, 3], sha256=["x", "y", "x", "z"])
    first, second = find_copies(dataset).findings

    assert (first.path, first.group, first.detail) == (
        *("ants/000.jpg", 1, "exact copy of ants/002.jpg"),
    )
    assert (second.path, second.detail) == ("ants/002.jpg", "exact copy of ants/000.jpg")


def test_find_copies__tells_a_near_copy_from_an_exact_one():
    dataset = made_dataset([0, 0, 0, 1], copies=[0, 0, 0, 3], sha256=["x", "y", "x", "z"])
    details = [finding.detail for finding in find_copies(dataset).findings]

    assert [detail.partition(" of ")[0] for detail in details] == [
        *("exact copy", "near copy", "exact copy"),
    ]


def test_find_copies__across_labels_come_before_those_across_parts_and_the_rest():
    dataset = made_dataset(
        [0, 0, 0, 0, 0, 1],
        copies=[0, 0, 2, 2, 4, 4],
        splits=["train", "train", "train", "val", "train", "train"],
    )
    found = find_copies(dataset).findings

    assert [(f.path[-7:-4], f.group) for f in found] == [
        *(("004", 1), ("005", 1), ("002", 2), ("003", 2), ("000", 3), ("001", 3)),
    ]
    assert found[0].score > found[2].score > found[4].score
    assert "across the labels ants, bees, of which one at most is right" in found[0].detail
    assert "across train and val, which inflates the accuracy" in found[2].detail
    assert found[4].detail == "near copy of ants/001.jpg"


def test_find_copies__names_nothing_where_all_images_differ():
    assert find_copies(made_dataset([0, 0, 1, 1])).findings == ()


def test_find_unreadable__names_each_image_with_its_reason():
    (finding,) = find_unreadable(made_dataset([0, 1], left_out=[("ants/x.jpg", "empty")])).findings

    assert (finding.kind, finding.path, finding.detail) == (
        *(Kind.UNREADABLE, "ants/x.jpg", "empty"),
    )
