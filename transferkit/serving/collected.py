"""Images whose class was marked, kept as a dataset: a folder per class, files named by content."""

import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from transferkit.data.class_names import folder_names
from transferkit.data.images import stored_form
from transferkit.errors import OutputError
from transferkit.files import whole_file
from transferkit.tables import csv_writer

MARKS = "marks.csv"
"""Lists every mark. Datasets leave it out, because it has no suffix of an image."""

_COLUMNS = ("sha256", "predicted", "label", "model", "time")

_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "JPEG2000": ".jp2", "TIFF": ".tif"}
"""Pillow's name of a format -> suffix, where that is not the name itself."""


@dataclass(frozen=True)
class CollectedImages:
    """A folder of images whose class was marked.

    Attributes:
        folder: The folder.
        class_names: Classes that may be marked.
        model: What identifies the model whose predictions were judged.
    """

    folder: Path
    class_names: tuple[str, ...]
    model: str
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def folders(self) -> dict[str, str]:
        """Class -> name of its folder."""
        return folder_names(self.class_names, reserved=[MARKS])

    def keep(self, data: bytes, label: str, predicted: str) -> str:
        """Keep an image, and list the mark.

        An image that was marked before moves to its new class.

        Args:
            data: Content of its file, which was decoded before.
            label: Its class, one of `class_names`.
            predicted: The class that the model predicted.

        Returns:
            Its path in the folder.

        Raises:
            OutputError: When it cannot be written.
        """
        digest = sha256(data).hexdigest()
        kind = stored_form(data).format
        name = digest + _SUFFIXES.get(kind, f".{kind.lower()}")
        place = Path(self.folders[label], name)
        with self._one_at_a_time:
            if not (self.folder / place).exists():
                with whole_file(self.folder / place, size=len(data)) as temporary:
                    temporary.write_bytes(data)
            self._remove_elsewhere(place)
            self._list([digest, predicted, label, self.model, datetime.now(UTC).isoformat()])
        return place.as_posix()

    def _remove_elsewhere(self, place: Path) -> None:
        """Remove the image from all classes but its own."""
        for folder in set(self.folders.values()) - {place.parent.name}:
            with suppress(FileNotFoundError):
                (self.folder / folder / place.name).unlink()

    def _list(self, row: list[str]) -> None:
        try:
            with (self.folder / MARKS).open("a", encoding="utf-8", newline="",
                                            errors="surrogateescape") as file:  # fmt: skip
                writer = csv_writer(file)
                if not file.tell():
                    writer.writerow(_COLUMNS)
                writer.writerow(row)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {self.folder / MARKS}: {error.strerror}") from error
