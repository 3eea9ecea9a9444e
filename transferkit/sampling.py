"""Choose some of many rows. Imports no torch."""

import numpy as np
from numpy.typing import NDArray


def evenly_spaced(count: int, most: int) -> NDArray[np.int64]:
    """Return all positions below `count`, or `most` of them, evenly spaced, with the last.

    Rows that are sorted by class are then chosen from all classes alike.
    """
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)
