"""The file that records the split of each image: written by every run, reused by `--split`."""

import csv
from collections.abc import Sequence
from typing import get_args

from transferkit.data.dataset import Dataset
from transferkit.data.index import ImageIndex
from transferkit.data.split import Split
from transferkit.errors import DataError, name_some
from transferkit.places import Place
from transferkit.tables import write_csv

COLUMNS = ("path", "label", "split", "sha256", "group")
NAME = "split.csv"


def write_split(folder: Place, dataset: Dataset) -> None:
    """Write split.csv, which `--split` can reuse.

    Raises:
        OutputError: When it cannot be written.
    """
    index = dataset.index
    labels = (index.class_names[label] for label in index.labels)
    rows = zip(
        index.paths, labels, dataset.splits, dataset.sha256, dataset.recorded_groups(), strict=True
    )
    write_csv(folder / NAME, COLUMNS, rows)


def recorded_splits(file: Place, index: ImageIndex, digests: Sequence[str]) -> dict[int, Split]:
    """Read the splits of an index's images from a split file.

    Args:
        file: A split file, or the folder of a run that has one.
        index: The images; those that the file does not name are new.
        digests: N digests of the files.

    Returns:
        Position in the index -> split.

    Raises:
        DataError: When the file cannot be read, or names an image that is missing or has changed.
    """
    file = _split_file(file)
    position = {path: row for row, path in enumerate(index.paths)}
    left_out = {item.path: item.reason for item in index.left_out}
    splits: dict[int, Split] = {}
    missing, changed = [], []
    for record in _records(file):
        path = record["path"]
        row = position.get(path)
        if row is None:
            missing.append(f"{path} ({left_out[path]})" if path in left_out else path)
        elif digests[row] != record["sha256"]:
            changed.append(path)
        else:
            splits[row] = record["split"]  # type: ignore[assignment]
    for what, paths in (("missing", missing), ("changed", changed)):
        if paths:
            raise DataError(
                f"{file}: {len(paths)} of its images are {what} in {index.root}: "
                f"{name_some(paths)}; expected the files that were split then; put them back, or "
                "make a new split without --split"
            )
    return splits


def recorded_digests(file: Place) -> dict[str, str]:
    """Return path -> SHA-256 of every image in a split file.

    Raises:
        DataError: When the file cannot be read.
    """
    return {record["path"]: record["sha256"] for record in _records(file)}


def recorded_labels(file: Place) -> dict[str, str]:
    """Return path -> label of every image in a split file, or in that of a run's folder.

    Raises:
        DataError: When the file cannot be read.
    """
    return {record["path"]: record["label"] for record in _records(_split_file(file))}


def recorded_paths(file: Place, split: Split) -> tuple[list[str], list[str]]:
    """Return the paths and the labels of all images of a part of a split file.

    Raises:
        DataError: When the file cannot be read.
    """
    records = [record for record in _records(file) if record["split"] == split]
    return [record["path"] for record in records], [record["label"] for record in records]


def trained_digests(file: Place) -> frozenset[str]:
    """Return the SHA-256 of every training image in a split file.

    Raises:
        DataError: When the file cannot be read.
    """
    return frozenset(r["sha256"] for r in _records(file) if r["split"] == "train")


def _split_file(file: Place) -> Place:
    """Return the split file that a path names: itself, or that of a run's folder."""
    return file / NAME if file.is_dir() else file


def _records(file: Place) -> list[dict[str, str]]:
    try:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
            table = csv.DictReader(lines, strict=True)
            absent = set(COLUMNS[:4]) - set(table.fieldnames or ())
            if absent:
                raise DataError(
                    f"{file}: has no column {', '.join(sorted(absent))}; expected the {NAME} of a "
                    "run"
                )
            records = list(table)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{file}: {reason}; expected the {NAME} of a run, or its folder") from error
    except csv.Error as error:
        raise DataError(f"{file}: is damaged ({error}); expected the {NAME} of a run") from error
    known = get_args(Split)
    for number, record in enumerate(records, start=2):
        if record["split"] not in known:
            raise DataError(
                f"{file}: line {number} has the split {record['split']!r}, expected one of "
                f"{', '.join(known)}"
            )
    return records
