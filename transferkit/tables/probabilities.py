"""Class probabilities of labelled images, saved so that every metric can be computed again."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transferkit.errors import DataError
from transferkit.files import whole_file
from transferkit.places import Place


@dataclass(frozen=True, eq=False)
class ProbabilityTable:
    """Labelled images with a model's class probabilities.

    Attributes:
        paths: N paths, relative to the dataset's folder.
        labels: (N,) int64, positions in `label_names`.
        label_names: C names.
        probabilities: (N, C) float32.
    """

    paths: Sequence[str]
    labels: NDArray[np.int64]
    label_names: Sequence[str]
    probabilities: NDArray[np.float32]


def write_probabilities(table: ProbabilityTable, path: Place) -> None:
    """Write a table as compressed .npz, atomically.

    The arrays in it are paths, labels, label_names and probabilities.

    Raises:
        OutputError: When the file cannot be written.
    """
    with whole_file(path, size=table.probabilities.nbytes) as temporary, temporary.open("wb") as to:
        np.savez_compressed(
            to,
            paths=np.array(table.paths, dtype=np.str_),
            labels=table.labels,
            label_names=np.array(table.label_names, dtype=np.str_),
            probabilities=table.probabilities.astype(np.float32),
        )


def read_probabilities(path: Place) -> ProbabilityTable:
    """Read a table that `write_probabilities` wrote.

    Raises:
        DataError: When there is no such file, or it is damaged.
    """
    try:
        # Opened here, because numpy does not close a damaged archive.
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            table = ProbabilityTable(
                paths=tuple(file["paths"].tolist()),
                labels=file["labels"].astype(np.int64),
                label_names=tuple(file["label_names"].tolist()),
                probabilities=file["probabilities"].astype(np.float32),
            )
    except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as a table of predictions ({reason})") from error
    rows, width = len(table.paths), len(table.label_names)
    labels = table.labels
    whole = labels.shape == (rows,) and table.probabilities.shape == (rows, width)
    if not whole or not rows or labels.min() < 0 or labels.max() >= width:
        raise DataError(f"{path}: is damaged, its parts do not belong together")
    return table
