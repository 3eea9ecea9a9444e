"""Splitting: stratified and seeded, with an error if a class cannot be divided."""

from pathlib import Path

import numpy as np
import pytest

from transferkit.data import split
from transferkit.data.index import ImageIndex
from transferkit.errors import DataError


def index_of(counts: dict[str, int], splits: tuple[str, ...] = ()) -> ImageIndex:
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    paths = tuple(f"{i}.png" for i in range(len(labels)))
    return ImageIndex(Path("data"), paths, labels, tuple(counts), splits or ("",) * len(labels))


def assign_splits(index, *, val_fraction, seed, sha256=None):
    digests = sha256 or index.paths
    _, copies = np.unique(digests, return_inverse=True)
    return split.assign_splits(index, digests, copies, val_fraction=val_fraction, seed=seed)


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [(2, 0.2, 1), (3, 0.2, 1), (10, 0.2, 2), (10, 0.25, 2), (10, 0.99, 9), (133, 0.2, 27)],
)
def test_assign_splits__takes_the_fraction_of_every_class(count, fraction, expected):
    index = index_of({"a": count, "b": 50})

    splits = np.array(assign_splits(index, val_fraction=fraction, seed=0))

    assert (splits[index.labels == 0] == "val").sum() == expected
    assert (splits[index.labels == 1] == "val").sum() == min(49, round(50 * fraction))


def test_assign_splits__depends_on_the_seed_alone():
    index = index_of({"a": 40, "b": 40})
    first = assign_splits(index, val_fraction=0.5, seed=1)

    assert assign_splits(index, val_fraction=0.5, seed=1) == first
    assert assign_splits(index, val_fraction=0.5, seed=2) != first


def test_assign_splits__keeps_the_splits_of_the_folders():
    given = ("train", "train", "val", "train", "train", "val", "test")

    assert assign_splits(index_of({"a": 3, "b": 4}, given), val_fraction=0.2, seed=0) == given


def test_assign_splits__takes_validation_from_train_if_there_is_only_test():
    given = ("train",) * 5 + ("test",) + ("train",) * 5

    splits = assign_splits(index_of({"a": 6, "b": 5}, given), val_fraction=0.2, seed=0)

    assert splits[5] == "test"
    assert splits.count("val") == 2


def test_assign_splits__trains_on_a_class_with_one_image():
    splits = assign_splits(index_of({"a": 5, "b": 1}), val_fraction=0.2, seed=0)

    assert splits[-1] == "train"
    assert sorted(splits[:5]) == ["train"] * 4 + ["val"]


def test_assign_splits__refuses_a_dataset_with_nothing_to_validate_with():
    with pytest.raises(DataError, match="no class has two different readable images"):
        assign_splits(index_of({"a": 1, "b": 1}), val_fraction=0.2, seed=0)


def test_assign_splits__trains_on_class_folders_beside_a_validation_part():
    splits = assign_splits(
        index_of({"a": 3, "b": 2}, ("", "", "val", "", "val")), val_fraction=0.2, seed=0
    )

    assert splits == ("train", "train", "val", "train", "val")


def test_assign_splits__refuses_a_single_class():
    with pytest.raises(DataError, match=r"got one class \(a\), expected two or more"):
        assign_splits(index_of({"a": 5}), val_fraction=0.2, seed=0)


def test_assign_splits__refuses_a_validation_class_without_training_images():
    given = ("train", "train", "val", "train", "val")

    with pytest.raises(DataError, match="c in val but without an image in train"):
        assign_splits(index_of({"a": 3, "b": 1, "c": 1}, given), val_fraction=0.2, seed=0)


@pytest.mark.parametrize("seed", range(5))
def test_assign_splits__never_divides_copies(seed):
    """Ten images per class with three copies each; one copy is in the other class."""
    index = index_of({"a": 30, "b": 30})
    sha256 = [f"{i % 10}a" for i in range(30)] + [f"{i % 10}b" for i in range(29)] + ["0a"]

    splits = assign_splits(index, val_fraction=0.3, seed=seed, sha256=sha256)

    sides = {}
    for digest, name in zip(sha256, splits, strict=True):
        sides.setdefault(digest, set()).add(name)
    assert all(len(side) == 1 for side in sides.values())
    assert 8 <= splits[:30].count("val") <= 10


def test_assign_splits__trains_on_a_class_of_copies_of_one_image():
    index = index_of({"a": 3, "b": 3})

    splits = assign_splits(index, val_fraction=0.5, seed=0, sha256=list("xxxabc"))

    assert splits[:3] == ("train",) * 3
    assert "val" in splits[3:]
