"""Tables that leave the program, in every format; and what their formats share."""

import csv
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from transferkit.errors import OptionError
from transferkit.files import whole_file


def format_of(path: Path, formats: type[StrEnum], option: str) -> Any:
    """The format that a file's suffix names.

    Raises:
        OptionError: When it names none of `formats`.
    """
    try:
        return formats(path.suffix.lower().removeprefix("."))
    except ValueError as error:
        known = ", ".join(f".{kind}" for kind in formats if kind != "table")
        raise OptionError(f"{option}: got {path}, expected a file ending in {known}") from error


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, whole.

    Raises:
        OutputError: When the file cannot be written.
    """
    with (
        whole_file(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
