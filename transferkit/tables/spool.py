"""Features on disk as they are computed: memory stays small, an interruption costs little.

The folder holds `identity.json` (what the rows are of), `rows.f32` (the numbers) and `log.jsonl`,
a line a batch, written after its rows: what the log does not know of was not finished.
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
    """Rows in a file, read a slice at a time.

    Attributes:
        path: Raw float32 numbers.
        shape: (N, ...).
    """

    path: Path
    shape: tuple[int, ...]

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        """The rows from `rows.start` to `rows.stop`."""
        width = prod(self.shape[1:])
        count = (rows.stop - rows.start) * width
        read = np.fromfile(self.path, "<f4", count, offset=4 * rows.start * width)
        return read.reshape(-1, *self.shape[1:])


@dataclass
class Spool:
    """Rows of a list of files, in their order, of which some are done.

    Attributes:
        folder: Where they are.
        shape: Of one row.
        done: How many files are finished, the unreadable ones included.
        reasons: Position of a file -> why it could not be read; such files have no row.
    """

    folder: Path
    shape: tuple[int, ...]
    done: int = 0
    reasons: dict[int, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls, folder: Path, identity: Mapping[str, Any], shape: tuple[int, ...], *, resume: bool
    ) -> "Spool":
        """Begin, or go on with what an earlier run left in `folder`.

        Args:
            folder: Made where it is not there.
            identity: What the rows depend on, JSON values.
            shape: Of one row.
            resume: Whether rows in `folder` are kept.

        Raises:
            OutputError: When rows are there and `resume` is false, or they are of something else,
                or the folder cannot be written.
        """
        spool = cls(folder, shape)
        with _explained(folder):
            if resume and (folder / _LOG).is_file():
                spool._go_on(identity)
            else:
                _clear(folder)
                folder.mkdir(parents=True)
                (folder / _IDENTITY).write_text(json.dumps(identity), encoding="utf-8")
                (folder / _ROWS).touch()
                (folder / _LOG).touch()
        return spool

    def _go_on(self, identity: Mapping[str, Any]) -> None:
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
        # The last line may have been cut off in the middle.
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
        """The rows of the finished files that could be read."""
        return StoredRows(self.folder / _ROWS, (self.done - len(self.reasons), *self.shape))

    def add(self, values: NDArray[np.float32], failures: Mapping[int, str]) -> None:
        """Append the rows of the next files.

        Args:
            values: (B, ...) of those that could be read, in their order.
            failures: Position of a file -> why it could not be read.

        Raises:
            OutputError: When they cannot be written, a full device included.
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
            f"cannot write {folder}: {error.strerror or error}; what is finished there stays, make "
            "room and go on with --resume"
        ) from error


def _clear(folder: Path) -> None:
    """Remove what an earlier extraction left.

    Raises:
        OutputError: When the folder holds something else.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _IDENTITY).is_file():
        raise OutputError(f"{folder}: is no unfinished extraction; move it away")
    shutil.rmtree(folder, ignore_errors=True)
