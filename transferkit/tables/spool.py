"""Features written to disk while they are computed: little memory, and little lost if interrupted.

The folder contains `identity.json` (what the rows depend on), `rows.f32` (the numbers) and
`log.jsonl`, with one line per batch. The line is written after the batch's rows, so rows without a
line are incomplete.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.errors import OutputError

_IDENTITY, _ROWS, _LOG = "identity.json", "rows.f32", "log.jsonl"


@dataclass(frozen=True)
class StoredRows:
    """Rows in a file, read in slices.

    Attributes:
        path: File of raw float32 numbers.
        shape: (N, ...).
    """

    path: Path
    shape: tuple[int, ...]

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        """Return the rows from `rows.start` to `rows.stop`."""
        width = prod(self.shape[1:])
        count = (rows.stop - rows.start) * width
        read = np.fromfile(self.path, "<f4", count, offset=4 * rows.start * width)
        return read.reshape(-1, *self.shape[1:])


@dataclass
class Spool:
    """Rows of the first images of a list, in order; more are added as they are computed.

    Attributes:
        folder: Folder of the rows.
        shape: Shape of one row.
        done: Number of images that are finished, including the unreadable ones.
        reasons: Position -> reason of each image that could not be read and has no row.
    """

    folder: Path
    shape: tuple[int, ...]
    done: int = 0
    reasons: dict[int, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls, folder: Path, identity: Mapping[str, Any], shape: tuple[int, ...], *, resume: bool
    ) -> "Spool":
        """Start a new spool, or resume the one that an earlier run left in `folder`.

        Args:
            folder: Folder of the rows, created if necessary.
            identity: Everything that the rows depend on, as JSON values.
            shape: Shape of one row.
            resume: Whether to keep the rows that are in `folder`.

        Raises:
            OutputError: When the rows to keep depend on something else or are damaged, the folder
                contains anything but a spool, or it cannot be written.
        """
        spool = cls(folder, shape)
        with _explained(folder):
            if resume and (folder / _LOG).is_file():
                spool._resume(identity)
            else:
                _clear(folder)
                folder.mkdir(parents=True)
                (folder / _IDENTITY).write_text(json.dumps(identity), encoding="utf-8")
                (folder / _ROWS).touch()
                (folder / _LOG).touch()
        return spool

    def _resume(self, identity: Mapping[str, Any]) -> None:
        try:
            known = dict(json.loads((self.folder / _IDENTITY).read_text(encoding="utf-8")))
            self._read_log(known, json.loads(json.dumps(identity)))
        except (ValueError, TypeError, FileNotFoundError) as error:
            raise OutputError(
                f"{self.folder}: is damaged ({error}); start over with --overwrite"
            ) from error

    def _read_log(self, known: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        if differing := [key for key in wanted if known.get(key) != wanted[key]]:
            raise OutputError(
                f"{self.folder}: was begun with other {', '.join(differing)}; give the same "
                "options on the same files, or start over with --overwrite"
            )
        log = (self.folder / _LOG).read_text(encoding="utf-8")
        # The last line may be incomplete.
        lines = log[: log.rfind("\n") + 1].splitlines(keepends=True)
        size = (self.folder / _ROWS).stat().st_size
        kept = 0
        for line in lines:
            done, reasons = json.loads(line)
            failed = self.reasons | {int(row): why for row, why in reasons}
            if 4 * prod(self.shape) * (done - len(failed)) > size:
                break  # rows that never reached the device, as after a power cut
            self.done, self.reasons, kept = done, failed, kept + 1
        with (self.folder / _ROWS).open("r+b") as file:
            file.truncate(4 * prod(self.rows.shape))
        (self.folder / _LOG).write_text("".join(lines[:kept]), encoding="utf-8")

    @property
    def rows(self) -> StoredRows:
        """The rows of the finished images that could be read."""
        return StoredRows(self.folder / _ROWS, (self.done - len(self.reasons), *self.shape))

    def add(self, values: NDArray[np.float32], failures: Mapping[int, str]) -> None:
        """Append the rows of the next images.

        Args:
            values: (B, ...) rows of the images that could be read, in order.
            failures: Position -> reason of each image that could not be read.

        Raises:
            OutputError: When they cannot be written, for example because the device is full.
        """
        done = self.done + len(values) + len(failures)
        with _explained(self.folder):
            with (self.folder / _ROWS).open("ab") as file:
                file.write(values.astype("<f4", copy=False).tobytes())
            with (self.folder / _LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps([done, list(failures.items())]) + "\n")
        self.done = done
        self.reasons.update(failures)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {folder}: {error.strerror or error}; the finished rows are kept there, "
            "make room and resume with --resume"
        ) from error


def _clear(folder: Path) -> None:
    """Remove the folder of an earlier extraction.

    Raises:
        OutputError: When the folder contains something else.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _IDENTITY).is_file():
        raise OutputError(f"{folder}: is not an unfinished extraction; move it away")
    shutil.rmtree(folder, ignore_errors=True)
