"""Pixels that are decoded once: kept in memory, or in a file that goes with the run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from threading import Lock
from typing import IO

import numpy as np
from numpy.typing import NDArray


@dataclass
class PixelStore:
    """Prepared pixels by the position of their picture, up to a number of bytes.

    What no longer has room is prepared anew each time. Threads may use it together.

    Attributes:
        limit: Bytes it may hold.
        in_file: Whether they are in a file without a name and not in memory.
        used: Bytes it holds.
    """

    limit: int
    in_file: bool = False
    used: int = 0
    _kept: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    _file: IO[bytes] | None = None
    _lock: Lock = field(default_factory=Lock)

    def get(self, row: int, prepare: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The pixels of a picture, (H, W, 3) uint8; `prepare` makes them the first time."""
        known = self._kept.get(row)
        if known is not None:
            return known
        pixels = prepare()
        with self._lock:
            if self.used + pixels.nbytes <= self.limit and row not in self._kept:
                self._kept[row] = self._in_file(pixels) if self.in_file else pixels
                self.used += pixels.nbytes
        return pixels

    def _in_file(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._file is None:
            # Open as long as the pixels are in use; the system removes it with the process.
            self._file = TemporaryFile(prefix="transferkit-")  # noqa: SIM115
        self._file.write(np.ascontiguousarray(pixels).data)
        self._file.flush()
        return np.memmap(self._file, dtype=np.uint8, mode="r", offset=self.used, shape=pixels.shape)
