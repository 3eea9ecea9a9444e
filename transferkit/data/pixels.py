"""Pixels that are decoded once: kept in memory, or in a file that goes with the run."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock

import numpy as np
from numpy.typing import NDArray


class PixelStore:
    """Prepared pixels by the position of their picture, up to a number of bytes.

    What no longer has room is prepared anew each time. Threads may use it together.

    Args:
        limit: Bytes it may hold.
        folder: Where a file without a name holds them; None keeps them in memory.
    """

    def __init__(self, limit: int, folder: Path | None = None) -> None:
        self.used = 0
        self._limit = limit
        self._file = _PixelFile(folder) if folder else None
        self._kept: dict[int, NDArray[np.uint8] | _Place] = {}
        self._lock = Lock()

    def get(self, row: int, prepare: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The pixels of a picture, (H, W, 3) uint8; `prepare` makes them the first time."""
        known = self._kept.get(row)
        if isinstance(known, _Place):
            assert self._file
            return self._file.read(known)
        if known is not None:
            return known
        pixels = np.ascontiguousarray(prepare())  # a view would hold on to all that it is cut from
        with self._lock:
            if row not in self._kept and self.used + pixels.nbytes <= self._limit:
                self._keep(row, pixels)
        return pixels

    def _keep(self, row: int, pixels: NDArray[np.uint8]) -> None:
        try:
            self._kept[row] = self._file.append(pixels) if self._file else pixels
        except OSError:
            self._limit = 0  # a full device: what is there stays, the rest is prepared each time
        else:
            self.used += pixels.nbytes


@dataclass(frozen=True)
class _Place:
    offset: int
    shape: tuple[int, ...]


class _PixelFile:
    def __init__(self, folder: Path) -> None:
        # Not buffered, so that a full device is told by the write that it fails. Without a name:
        # the system frees it when the process ends, however that is.
        self._file = TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self._lock = Lock()
        self._end = 0
        weakref.finalize(self, self._file.close)

    def append(self, pixels: NDArray[np.uint8]) -> _Place:
        with self._lock:
            place = _Place(self._end, pixels.shape)
            self._file.seek(place.offset)
            if self._file.write(pixels.data.cast("B")) != pixels.nbytes:
                raise OSError("the device is full")
            self._end += pixels.nbytes
        return place

    def read(self, place: _Place) -> NDArray[np.uint8]:
        pixels = np.empty(place.shape, dtype=np.uint8)
        with self._lock:
            self._file.seek(place.offset)
            self._file.readinto(pixels.data.cast("B"))
        return pixels
