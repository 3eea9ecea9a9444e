"""Groups of images that belong together, such as all images of one patient, camera or film.

A group stays on one side of every split, because images of one group are often more alike than
images of one class, and a model that has seen one recognises the others.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from transferkit.data.index import ImageIndex
from transferkit.data.table_file import read_columns
from transferkit.errors import DataError, name_some

Labels = NDArray[np.int64]

_COLUMNS = ("path", "group")


def groups_by_pattern(index: ImageIndex, pattern: re.Pattern[str]) -> tuple[str, ...]:
    """Return the group of each image: what the pattern's first group matches in its path.

    Raises:
        DataError: When the pattern is not found in a path.
    """
    found = [pattern.search(path) for path in index.paths]
    strange = [p for p, match in zip(index.paths, found, strict=True) if not (match and match[1])]
    if strange:
        raise DataError(
            f"--group-by: {pattern.pattern!r} is not found in {len(strange)} of {len(index)} paths "
            f"below {index.root}: {name_some(strange)}; expected a group in every path"
        )
    return tuple(match[1] for match in found if match)


def groups_from_table(index: ImageIndex, file: Path) -> tuple[str, ...]:
    """Return the group of each image from a CSV or Parquet table with the columns path and group.

    Raises:
        DataError: When the table cannot be read, or has no single group for an image.
    """

    def choose(names: Sequence[str]) -> Sequence[str]:
        if missing := [name for name in _COLUMNS if name not in names]:
            shown = f"it has {name_some(names, 10)}" if names else "it is empty"
            raise DataError(
                f"{file}: has no column {missing[0]}; {shown}; expected the columns path and group"
            )
        return _COLUMNS

    groups: dict[str, str] = {}
    for path, group in read_columns(file, choose):
        if groups.setdefault(path, group) != group:
            raise DataError(f"{file}: {path} is in two groups, {groups[path]} and {group}")
    missing = [path for path in index.paths if not groups.get(path)]
    if missing:
        raise DataError(
            f"{file}: has no group for {len(missing)} of {len(index)} images: "
            f"{name_some(missing)}; expected every path below {index.root}, with / between folders"
        )
    return tuple(groups[path] for path in index.paths)


def number_together(copies: NDArray[np.int64], groups: Sequence[str]) -> NDArray[np.int64]:
    """Number images so that copies and images of one group have the same number.

    Args:
        copies: (N,) numbers, equal for copies of one image.
        groups: N names of groups.

    Returns:
        (N,) int64.
    """
    count = len(copies)
    _, number = np.unique(np.array(groups, dtype=object).astype(str), return_inverse=True)
    nodes = np.arange(count)
    # Images are joined to a node for their copies and to one for their group.
    joined = np.concatenate([count + copies, 2 * count + number])
    edges = coo_array(
        (np.ones(2 * count), (np.tile(nodes, 2), joined)), shape=(3 * count, 3 * count)
    )
    _, component = connected_components(edges, directed=False)
    numbers: NDArray[np.int64] = component[:count].astype(np.int64)
    return numbers


def grouped_folds(
    labels: Labels, groups: NDArray[np.int64], count: int, seed: int
) -> list[NDArray[np.int64]]:
    """Divide rows into folds of similar classes that keep each group in one fold.

    Args:
        labels: (N,) int64.
        groups: (N,) numbers; rows with equal numbers stay together.
        count: Number of folds, 2 or more.
        seed: Decides between equally good divisions.

    Returns:
        The positions of each fold's rows. Every class keeps a row outside each fold, for which a
        fold gives up groups if necessary, so some rows may be in no fold.

    Raises:
        DataError: When there are fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    found = len(np.unique(groups))
    if found < count or np.bincount(labels).max() < count:
        raise DataError(
            f"got {found} groups of {len(labels)} images, expected {count} or more to divide; "
            "make the groups smaller, or give a validation folder with --val"
        )
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with catch_warnings():
        # It warns of classes with fewer rows than folds, which are taken care of below.
        simplefilter("ignore", UserWarning)
        held_out = [rows for _, rows in folds.split(labels, labels, groups)]
    return [_sparing_every_class(rows, labels, groups) for rows in held_out]


def hold_out_groups(
    labels: Labels, groups: NDArray[np.int64], share: float, seed: int
) -> NDArray[np.int64]:
    """Return the positions of about a share of the rows, in whole groups and of similar classes.

    Raises:
        DataError: When there are fewer than two groups, or holding out any leaves a class without
            rows.
    """
    divisible = min(len(np.unique(groups)), int(np.bincount(labels).max(initial=0)))
    most = max(min(_MOST_FOLDS, divisible), 2)
    sizes = [(taken, count) for count in range(2, most + 1) for taken in range(1, count)]
    taken, count = min(sizes, key=lambda size: (abs(size[0] / size[1] - share), size[1]))
    folds = grouped_folds(labels, groups, count, seed)
    for first in range(count):
        chosen = [folds[(first + i) % count] for i in range(taken)]
        rows = _sparing_every_class(np.concatenate(chosen), labels, groups)
        if len(rows):
            return rows
    raise DataError(
        f"{len(np.unique(groups))} groups cannot be divided: every group is the only one of some "
        "class; make the groups smaller, or give a validation folder with --val"
    )


_MOST_FOLDS = 10


def _sparing_every_class(
    rows: NDArray[np.int64], labels: Labels, groups: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return rows without the smallest groups that contain the last rows of a class."""
    while True:
        outside = np.setdiff1d(np.arange(len(labels)), rows)
        missing = np.setdiff1d(labels, labels[outside])
        if not len(missing):
            return rows
        of_class = np.unique(groups[rows[labels[rows] == missing[0]]])
        sizes = [int((groups == group).sum()) for group in of_class]
        rows = rows[groups[rows] != of_class[int(np.argmin(sizes))]]
