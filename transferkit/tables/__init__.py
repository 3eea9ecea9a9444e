"""Tables that transferkit writes, in every format, and helpers that the formats share."""

import csv
import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, TextIO

from transferkit.errors import OptionError
from transferkit.files import whole_file
from transferkit.places import Place


def format_of(path: Place, formats: type[StrEnum], option: str) -> Any:
    """Return the format that a file's suffix names.

    Raises:
        OptionError: When the suffix names none of `formats`.
    """
    try:
        return formats(path.suffix.lower().removeprefix("."))
    except ValueError as error:
        known = ", ".join(f".{kind}" for kind in formats if kind != "table")
        raise OptionError(f"{option}: got {path}, expected a file ending in {known}") from error


def csv_writer(file: TextIO) -> Any:
    r"""Return a CSV writer whose lines end in a line feed, for a file opened with `newline=""`.

    Python's own writer quotes a carriage return only if lines end in one; without quotes, readers
    would take it for the end of a line.
    """
    return csv.writer(_Lines(file), lineterminator="\r\n")


class _Lines:
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.removesuffix("\r\n") + "\n")


def finite_cells(values: Iterable[object]) -> list[object]:
    """Return the cells of a row; a number that is not finite leaves its cell empty."""
    return [
        "" if isinstance(value, float) and not math.isfinite(value) else value for value in values
    ]


def write_csv(path: Place, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, atomically.

    Raises:
        OutputError: When the file cannot be written.
    """
    with (
        whole_file(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv_writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
