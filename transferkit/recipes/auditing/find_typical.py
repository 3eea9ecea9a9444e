"""Find images that are typical of their class, beside which a doubtful one is judged."""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from transferkit.data.dataset import Dataset

_PER_CLASS = 3


def find_typical(
    dataset: Dataset, features: NDArray[np.float32], doubted: Collection[str]
) -> Mapping[str, tuple[str, ...]]:
    """Return class name -> paths of its most typical images, the most typical first.

    Typical are the images whose features point most nearly into the mean direction of their class.

    Args:
        dataset: N images.
        features: (N, D).
        doubted: Paths of images that are no examples of their class.
    """
    index = dataset.index
    trusted = np.array([path not in doubted for path in index.paths])
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions = features / np.maximum(lengths, np.finfo(np.float32).tiny)
    typical = {}
    for label, name in enumerate(index.class_names):
        rows = np.flatnonzero(trusted & (index.labels == label))
        similarity = directions[rows] @ directions[rows].sum(axis=0)
        ordered = rows[np.argsort(-similarity, kind="stable")]
        _, first = np.unique(dataset.copies[ordered], return_index=True)
        typical[name] = tuple(index.paths[row] for row in ordered[np.sort(first)][:_PER_CLASS])
    return typical
