"""Rendered images on disk, in memory-mapped parts."""

from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pictures import render

from transferkit.files import whole_file

_PART = 500


class PictureStore:
    """All images of a range of programs.

    Attributes:
        count: Number of images.
        side: Side of an image in pixels.
    """

    def __init__(self, folder: Path, count: int, side: int, workers: int) -> None:
        """Render the parts that an earlier call has not finished."""
        self.count, self.side = count, side
        folder.mkdir(parents=True, exist_ok=True)
        starts = range(0, count, _PART)
        files = [folder / f"{start:07}-{side}.npy" for start in starts]
        missing = [
            (start, file) for start, file in zip(starts, files, strict=True) if not file.exists()
        ]
        with ProcessPoolExecutor(workers) as pool:
            for _ in pool.map(_render_part, missing, repeat(side)):
                pass
        self._parts = [np.load(file, mmap_mode="r") for file in files]

    def rows(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of these programs, (len(places), side, side, 3)."""
        return np.stack([self._parts[place // _PART][place % _PART] for place in places])


def _render_part(start_and_file: tuple[int, Path], side: int) -> None:
    torch.set_num_threads(1)
    start, file = start_and_file
    part = np.stack([render(start + row, side) for row in range(_PART)])
    with whole_file(file) as temporary, temporary.open("wb") as opened:
        np.save(opened, part)
