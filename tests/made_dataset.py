"""A dataset of images that exist only by name."""

from pathlib import Path

import numpy as np

from transferkit.data.dataset import Dataset
from transferkit.data.index import ImageIndex
from transferkit.reporter import LeftOut


def made_dataset(
    labels, *, class_names=("ants", "bees"), copies=None, sha256=None, splits=None, left_out=()
) -> Dataset:
    """Return a dataset with an image per label; all are different unless `copies` says otherwise.

    Args:
        labels: N positions in `class_names`.
        class_names: Names of the classes.
        copies: N numbers, equal for copies of one image.
        sha256: N digests of the files.
        splits: N parts of a split.
        left_out: (path, reason) of images that cannot be read.
    """
    count = len(labels)
    index = ImageIndex(
        Path("data"),
        tuple(f"{class_names[label]}/{row:03}.jpg" for row, label in enumerate(labels)),
        np.array(labels, dtype=np.int64),
        tuple(class_names),
        tuple(splits or [""] * count),
        tuple(LeftOut(path, reason, unreadable=True) for path, reason in left_out),
    )
    return Dataset(
        index,
        tuple(sha256 or map(str, range(count))),
        np.arange(count) if copies is None else np.array(copies, dtype=np.int64),
        tuple(splits or ["train"] * count),
    )
