"""Divide an index into train, val and test."""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from transferkit.data.index import ImageIndex
from transferkit.errors import DataError

Split = Literal["train", "val", "test"]


def assign_splits(
    index: ImageIndex, sha256: Sequence[str], *, val_fraction: float, seed: int
) -> tuple[Split, ...]:
    """Give each image of `index` its split.

    Where the folders name the splits they are kept; a dataset with train/ and test/ only has its
    validation part taken from train/. Otherwise every class is divided at random by itself.
    Byte-identical images are never divided: all copies go to one side.

    Args:
        index: The images.
        sha256: N digests of the files.
        val_fraction: Share of each class that goes to validation, 0 < val_fraction < 1. Every
            class has at least one image in validation and one in training.
        seed: Same index and seed, same split.

    Raises:
        DataError: When there are fewer than two classes, a class has too few different images to
            divide, or is in validation or test but not in training.
    """
    splits = list(index.splits)
    if "val" not in splits:
        free = [i for i, name in enumerate(splits) if name != "test"]
        copies = _copies(free, sha256)
        _check_divisible(index, copies)
        in_val = _stratified(index, copies, val_fraction, seed)
        for i in free:
            splits[i] = "val" if i in in_val else "train"
    _check(index, splits)
    return tuple(splits)  # type: ignore[arg-type]


def _copies(rows: Sequence[int], sha256: Sequence[str]) -> list[list[int]]:
    """Rows of equal content together, in order of their first."""
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(sha256[row], []).append(row)
    return list(groups.values())


def _stratified(
    index: ImageIndex, copies: Sequence[list[int]], val_fraction: float, seed: int
) -> set[int]:
    # A picture that stands in two classes counts for the class of its first copy.
    first_label = np.array([index.labels[group[0]] for group in copies])
    in_val: set[int] = set()
    random = np.random.default_rng(seed)
    for label in range(len(index.class_names)):
        groups = np.flatnonzero(first_label == label)
        count = int(np.clip(round(val_fraction * len(groups)), 1, len(groups) - 1))
        for group in random.permutation(groups)[:count]:
            in_val.update(copies[group])
    return in_val


def _check_divisible(index: ImageIndex, copies: Sequence[list[int]]) -> None:
    if len(index.class_names) < 2:
        raise DataError(_one_class(index, index.class_names))
    different = np.bincount(
        [index.labels[group[0]] for group in copies], minlength=len(index.class_names)
    )
    few = [name for name, n in zip(index.class_names, different, strict=True) if n < 2]
    if few:
        raise DataError(
            f"{index.root}: got fewer than two different readable images in {', '.join(few)}, "
            "expected one to train on and one to validate with; add images or remove the folder"
        )


def _check(index: ImageIndex, splits: list[str]) -> None:
    names = {split: set[str]() for split in ("train", "val", "test")}
    for label, split in zip(index.labels, splits, strict=True):
        names[split].add(index.class_names[label])
    for split in ("val", "test"):
        if strange := sorted(names[split] - names["train"]):
            raise DataError(
                f"{index.root}: {', '.join(strange)} in {split} but without an image in train; "
                "add training images or remove the folder"
            )
    if len(names["train"]) < 2:
        raise DataError(_one_class(index, names["train"]))


def _one_class(index: ImageIndex, names: Iterable[str]) -> str:
    return (
        f"{index.root}: got one class ({', '.join(names)}), expected two or more to tell apart; "
        "make one subfolder a class"
    )
