"""The log of a sorted heap of images: a CSV file in which each image has a line.

A line is written before its image is put into its folder, and ended after that. So a last line
without an end names the one image that may be on its way, if the process was killed. Importing this
module imports no numpy.
"""

import csv
import errno
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from transferkit.errors import OutputError
from transferkit.tables import csv_writer

NAME = "sorted.csv"

UNSURE, UNREADABLE = "unsure", "unreadable"
"""Folders of images without a label, and of images that could not be read."""

STAYS = "none"
"""The action for an image that stays where it is."""


class By(StrEnum):
    """How an image gets into its folder.

    `link`: a symbolic link. `copy`: a second file. `move`: the file itself.
    """

    LINK = "link"
    COPY = "copy"
    MOVE = "move"


_COLUMNS = ("path", "folder", "file", "confidence", "action", "reason")


@dataclass(frozen=True)
class SortedImage:
    """A line of the log.

    Attributes:
        path: Full path, or address, of the image before it was sorted.
        folder: The folder in which it is now.
        file: Its name there; empty if it could not be put there.
        confidence: The highest probability; None if it could not be read.
        action: `link`, `copy`, `move`, or `none` for an image that stays where it is.
        reason: Why it is unsure, unreadable or stays where it is; empty for others.
    """

    path: str
    folder: str
    file: str
    confidence: float | None
    action: str
    reason: str

    def to_row(self) -> list[str]:
        """Return the values of its line."""
        confidence = "" if self.confidence is None else f"{self.confidence:.6f}"
        return [self.path, self.folder, self.file, confidence, self.action, self.reason]

    @classmethod
    def from_row(cls, row: list[str]) -> "SortedImage":
        """Return the image of a line.

        Raises:
            ValueError: When the values are not those of a line.
        """
        path, folder, file, confidence, action, reason = row
        if action != STAYS:
            action = By(action)
        return cls(path, folder, file, float(confidence) if confidence else None, action, reason)


@dataclass(frozen=True)
class SortedCounts:
    """How many images went where.

    Attributes:
        labelled: Number of images in folders of classes.
        classes: Number of those folders.
        unsure: Number of images without a label.
        unreadable: Number of images that could not be read.
    """

    labelled: int
    classes: int
    unsure: int
    unreadable: int


class SortLog:
    """The log in a folder, open for more lines.

    Attributes:
        images: Path -> the latest ended line about it.
        begun: The line that is not ended; None if all are.
    """

    def __init__(self, file: io.FileIO, text: str) -> None:
        """Continue a log.

        Args:
            file: The log, opened for appending without a buffer.
            text: Its content.

        Raises:
            ValueError: When that is the content of something else.
            OSError: When it cannot be written.
        """
        self._file, self._end = file, 0
        self.images: dict[str, SortedImage] = {}
        self.begun: SortedImage | None = None
        for row, line in _lines(text):
            self._read(row, line)
        if self.begun is None:
            # What follows the last line was cut off, as when a machine loses its power.
            self._file.truncate(self._end)
        if not self._end:
            self._write(_line(_COLUMNS) + b"\n")
            self._end = self._size()

    def begin(self, image: SortedImage) -> None:
        """Write a line without its end.

        Raises:
            OSError: When it cannot be written; nothing of it is in the file then.
        """
        self._write(_line(image.to_row()))
        self.begun = image

    def end(self) -> None:
        """End the line that was begun.

        Raises:
            OSError: When that cannot be written.
        """
        assert self.begun, "a line was begun"
        self._write(b"\n")
        self._end = self._size()
        self.images[self.begun.path] = self.begun
        self.begun = None

    def abandon(self) -> None:
        """Remove the line that was begun."""
        self._file.truncate(self._end)
        self.begun = None

    def counts(self) -> SortedCounts:
        """Count the images of all lines."""
        folders = Counter(image.folder for image in self.images.values())
        unsure, unreadable = folders.pop(UNSURE, 0), folders.pop(UNREADABLE, 0)
        return SortedCounts(folders.total(), len(folders), unsure, unreadable)

    def _read(self, row: list[str], line: bytes) -> None:
        """Take in a line that was written before."""
        is_ended = line.endswith(b"\n")
        if not self._end:
            if is_ended and tuple(row) != _COLUMNS:
                raise ValueError(f"begins with {','.join(row)}, expected {','.join(_COLUMNS)}")
        elif is_ended:
            image = SortedImage.from_row(row)
            self.images[image.path] = image
        else:
            with suppress(ValueError):
                self.begun = SortedImage.from_row(row)
        self._end += len(line) if is_ended else 0

    def _write(self, content: bytes) -> None:
        # In one call of the system, which a killed process completes.
        size = self._size()
        if self._file.write(content) < len(content):
            self._file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size


@contextmanager
def opened_log(folder: Path) -> Iterator[SortLog]:
    """Yield the log in a folder, and flush it to the device at the end of the block.

    Raises:
        OutputError: When it cannot be opened, or is something else.
    """
    path = folder / NAME
    try:
        file = io.FileIO(path, "a+")
    except OSError as error:
        raise _cannot_write(path, error) from error
    with file:
        try:
            file.seek(0)
            log = SortLog(file, file.readall().decode("utf-8", "surrogateescape"))
        except OSError as error:
            raise _cannot_write(path, error) from error
        except ValueError as error:
            raise OutputError(
                f"{path}: is no log of sorted images ({error}); name another --sort-into"
            ) from error
        yield log
        os.fsync(file.fileno())


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}; choose another place or make room and "
        "run again"
    )


def _line(row: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv_writer(text).writerow(row)
    return text.getvalue().removesuffix("\n").encode("utf-8", "surrogateescape")


def _lines(text: str) -> Iterator[tuple[list[str], bytes]]:
    """Yield the values and the bytes of each line, without one that is cut off in a quoted value.

    Raises:
        ValueError: When the text is not CSV.
    """
    pieces, taken = io.StringIO(text, newline=""), []

    def take() -> Iterator[str]:
        for piece in pieces:
            taken.append(piece)
            yield piece

    try:
        # A name may hold line feeds: the reader takes as many pieces as a line has.
        for row in csv.reader(take(), strict=True):
            yield row, "".join(taken).encode("utf-8", "surrogateescape")
            taken.clear()
    except csv.Error as error:
        if pieces.read():
            raise ValueError(str(error)) from error


def read_counts(folder: Path) -> SortedCounts:
    """Count the images that the log in a folder lists.

    Raises:
        OutputError: When there is no log, or it cannot be read.
    """
    with opened_log(folder) as log:
        return log.counts()
