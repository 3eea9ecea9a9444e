"""Divide the images of an index into train, val and test."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transferkit.data.class_names import describe_unknown
from transferkit.data.groups import hold_out_groups
from transferkit.data.index import ImageIndex
from transferkit.errors import DataError, name_some

Split = Literal["train", "val", "test"]


def assign_splits(
    index: ImageIndex,
    digests: Sequence[str],
    copies: NDArray[np.int64],
    *,
    val_fraction: float,
    seed: int,
    known: Mapping[int, Split] | None = None,
    together: NDArray[np.int64] | None = None,
) -> tuple[Split, ...]:
    """Assign each image of an index to a split.

    Splits that folders name are kept; a dataset with only train/ and test/ has its validation
    images taken from train/. Otherwise each class is divided separately, in an order that depends
    on the content of the files and the seed, not on names. All copies of one image go to the same
    split.

    When images are added, no rule without memory can keep both the share of every class and the
    split of each image: a split that never changes may depend on that image alone, and then chance
    decides the shares. This rule keeps the shares; `known` is the memory.

    Args:
        index: The images.
        digests: N digests of the files.
        copies: (N,) numbers, equal for copies of one image.
        val_fraction: Share of each class that goes to validation, 0 < val_fraction < 1. Every
            class has at least one image in training; one with two different images or more also
            has at least one in validation.
        seed: The same content and seed give the same split.
        known: Position -> split of images that have one already; they and their copies keep it.
        together: (N,) numbers, equal for images of one group and for copies; None without groups.
            Whole groups then go to validation, so the shares are less exact.

    Raises:
        DataError: When there are fewer than two classes, no class or too few groups to divide, or
            a class is in validation or test but not in training.
    """
    divided = "val" in index.splits
    splits: list[str] = [name if divided or name == "test" else "" for name in index.splits]
    for row, split in (known or {}).items():
        splits[row] = split
    if not divided:
        free = np.array([i for i, name in enumerate(splits) if name != "test"], dtype=np.int64)
        _require_two_classes(index, free)
        if together is None:
            held_out = _hold_out_images(
                index, digests, copies, splits, free, val_fraction=val_fraction, seed=seed
            )
        else:
            held_out = _hold_out_groups(
                index, together, splits, free, val_fraction=val_fraction, seed=seed
            )
        for row in held_out:
            splits[row] = splits[row] or "val"
    splits = [name or "train" for name in splits]
    _check(index, splits)
    return tuple(splits)  # type: ignore[arg-type]


class _Group:
    """All copies of one image.

    Attributes:
        rows: Their positions in the index.
        label: Their class; for copies in several classes, that of the first file by content.
        split: The split that one of them already has; empty if none has one.
        rank: Sort key for the order in which the class is divided.
    """

    def __init__(
        self,
        rows: Sequence[int],
        index: ImageIndex,
        digests: Sequence[str],
        splits: Sequence[str],
        seed: int,
    ) -> None:
        first = min(rows, key=lambda row: (digests[row], index.class_names[index.labels[row]]))
        self.rows = rows
        self.label = int(index.labels[first])
        # Copies that are already in different splits stay there; a new copy goes to training.
        self.split = max((splits[row] for row in rows), key=("", "val", "train").index)
        self.rank = sha256(f"{seed}:{digests[first]}".encode()).hexdigest()


def _together(rows: Iterable[int], copies: NDArray[np.int64]) -> list[list[int]]:
    """Group rows by image."""
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(int(copies[row]), []).append(row)
    return list(groups.values())


def _held_out(groups: Sequence[_Group], val_fraction: float) -> list[_Group]:
    """Return the groups for validation, as close to each class's share as whole groups allow."""
    of_class: dict[int, list[_Group]] = {}
    for group in sorted(groups, key=lambda group: group.rank):
        of_class.setdefault(group.label, []).append(group)
    return [group for members in of_class.values() for group in _held_out_of(members, val_fraction)]


def _held_out_of(groups: Sequence[_Group], val_fraction: float) -> list[_Group]:
    total = sum(len(group.rows) for group in groups)
    taken = [group for group in groups if group.split == "val"]
    room = max(1, round(val_fraction * total)) - sum(len(group.rows) for group in taken)
    free = [group for group in groups if not group.split]
    # One image is left for training if none is there yet.
    may_take = len(free) - (not any(group.split == "train" for group in groups))
    for group in free:
        if may_take > 0 and (len(group.rows) <= room or not taken):
            taken.append(group)
            room -= len(group.rows)
            may_take -= 1
    return taken


def _hold_out_images(
    index: ImageIndex,
    digests: Sequence[str],
    copies: NDArray[np.int64],
    splits: Sequence[str],
    free: NDArray[np.int64],
    *,
    val_fraction: float,
    seed: int,
) -> list[int]:
    """Return the rows for validation, a share of each class."""
    groups = [_Group(rows, index, digests, splits, seed) for rows in _together(free, copies)]
    return [row for group in _held_out(groups, val_fraction) for row in group.rows]


def _hold_out_groups(
    index: ImageIndex,
    together: NDArray[np.int64],
    splits: Sequence[str],
    free: NDArray[np.int64],
    *,
    val_fraction: float,
    seed: int,
) -> list[int]:
    """Return the rows for validation in whole groups; a group with a split keeps it.

    Raises:
        DataError: When there are too few groups.
    """
    begun: dict[int, str] = {}
    for row in free:
        group, split = int(together[row]), splits[row]
        # Training wins: what is trained on cannot be validated with.
        begun[group] = max(begun.get(group, ""), split, key=("", "val", "train").index)
    kept = [int(row) for row in free if begun[int(together[row])] == "val"]
    new = np.array([row for row in free if not begun[int(together[row])]], dtype=np.int64)
    if "val" in splits and len(np.unique(together[new])) < 2:
        return kept  # a single new group is trained on
    try:
        chosen = hold_out_groups(index.labels[new], together[new], val_fraction, seed)
    except DataError as error:
        raise DataError(f"{index.root}: {error}") from error
    return [*kept, *map(int, new[chosen])]


def _require_two_classes(index: ImageIndex, rows: NDArray[np.int64]) -> None:
    present = np.unique(index.labels[rows])
    if len(present) < 2:
        raise DataError(_one_class(index, [index.class_names[label] for label in present]))


def _check(index: ImageIndex, splits: Sequence[str]) -> None:
    names = {split: set[str]() for split in ("train", "val", "test")}
    for label, split in zip(index.labels, splits, strict=True):
        names[split].add(index.class_names[label])
    for split in ("val", "test"):
        if strange := sorted(names[split] - names["train"]):
            named = name_some(describe_unknown(strange, names["train"]))
            raise DataError(
                f"{index.root}: {named} in {split} but without an image in train; add training "
                "images, remove these, or give them the name of a training class"
            )
    if len(names["train"]) < 2:
        raise DataError(_one_class(index, names["train"]))
    if not names["val"]:
        raise DataError(
            f"{index.root}: no class has two different readable images, expected one to train on "
            "and one to validate with; add images, or give a validation folder with --val"
        )


def _one_class(index: ImageIndex, names: Iterable[str]) -> str:
    return (
        f"{index.root}: got one class ({name_some(list(names))}), expected two or more to tell "
        "apart; make one subfolder per class, or label each image with its class in a table"
    )
