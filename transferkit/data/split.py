"""Divide an index into train, val and test."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transferkit.data.index import ImageIndex
from transferkit.errors import DataError

Split = Literal["train", "val", "test"]


def assign_splits(index: ImageIndex, *, val_fraction: float, seed: int) -> tuple[Split, ...]:
    """Give each image of `index` its split.

    Where the folders name the splits they are kept; a dataset with train/ and test/ only has its
    validation part taken from train/. Otherwise every class is divided at random by itself.

    Args:
        index: The images.
        val_fraction: Share of each class that goes to validation, 0 < val_fraction < 1. Every
            class has at least one image in validation and one in training.
        seed: Same index and seed, same split.

    Raises:
        DataError: When there are fewer than two classes, a class has too few images to divide, or
            is in validation or test but not in training.
    """
    splits = list(index.splits)
    if "val" not in splits:
        _check_divisible(index)
        free = np.array([i for i, name in enumerate(splits) if name != "test"], dtype=np.int64)
        in_val = _stratified(index.labels[free], val_fraction, seed)
        for i, val in zip(free, in_val, strict=True):
            splits[i] = "val" if val else "train"
    _check(index, splits)
    return tuple(splits)  # type: ignore[arg-type]


def _stratified(labels: NDArray[np.int64], val_fraction: float, seed: int) -> NDArray[np.bool_]:
    in_val = np.zeros(len(labels), dtype=bool)
    random = np.random.default_rng(seed)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = int(np.clip(round(val_fraction * len(rows)), 1, len(rows) - 1))
        in_val[random.permutation(rows)[:count]] = True
    return in_val


def _check_divisible(index: ImageIndex) -> None:
    if len(index.class_names) < 2:
        raise DataError(_one_class(index, index.class_names))
    free = [label for label, name in zip(index.labels, index.splits, strict=True) if name != "test"]
    counts = np.bincount(free, minlength=len(index.class_names))
    single = [name for name, n in zip(index.class_names, counts, strict=True) if n == 1]
    if single:
        raise DataError(
            f"{index.root}: got one readable image in {', '.join(single)}, expected at least two a "
            "class, one to train on and one to validate with; add images or remove the folder"
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
