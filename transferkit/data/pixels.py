"""A store of pixels, so that each image is decoded once: in memory, or in a temporary file."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock

import numpy as np
from numpy.typing import NDArray


class PixelStore:
    """Prepared pixels by position of the image, up to a number of bytes; safe to use from threads.

    Pixels beyond the limit are prepared again each time.

    Args:
        limit: Bytes that the store may hold.
        folder: Folder for a nameless temporary file with the pixels; None keeps them in memory.
    """

    def __init__(self, limit: int, folder: Path | None = None) -> None:
        self.used = 0
        self._limit = limit
        self._file = _PixelFile(folder) if folder else None
        self._kept: dict[int, NDArray[np.uint8] | _Place] = {}
        self._lock = Lock()

    def get(self, row: int, prepare: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return an image's pixels, (H, W, 3) uint8, calling `prepare` if they are not stored."""
        known = self._kept.get(row)
        if isinstance(known, _Place):
            assert self._file
            return self._file.read(known)
        if known is not None:
            return known
        pixels = np.ascontiguousarray(prepare())  # a view would keep its whole base alive
        with self._lock:
            if row not in self._kept and self.used + pixels.nbytes <= self._limit:
                self._keep(row, pixels)
        return pixels

    def _keep(self, row: int, pixels: NDArray[np.uint8]) -> None:
        try:
            self._kept[row] = self._file.append(pixels) if self._file else pixels
        except OSError:
            self._limit = 0  # the device is full: keep what is stored, add nothing more
        else:
            self.used += pixels.nbytes


@dataclass(frozen=True)
class _Place:
    offset: int
    shape: tuple[int, ...]


class _PixelFile:
    def __init__(self, folder: Path) -> None:
        # Unbuffered, so that a full device fails the very write. Without a name, so that the system
        # frees the file whichever way the process ends.
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
