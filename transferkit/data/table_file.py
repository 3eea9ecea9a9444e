"""Read columns of a CSV or Parquet file as text. Imports pyarrow only for Parquet."""

import csv
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from numbers import Number
from pathlib import Path

from transferkit.errors import DataError
from transferkit.places import Place

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")

_Choose = Callable[[Sequence[str]], Sequence[str]]


def is_table(data: Place) -> bool:
    """Return whether a place is named as a table, and is no folder of that name."""
    has_suffix = data.suffix.lower() in TABLE_SUFFIXES
    return has_suffix and not (isinstance(data, Path) and data.is_dir())


def read_columns(file: Place, choose: _Choose) -> list[tuple[str, ...]]:
    """Return some columns of a table, row by row; cells without a value are empty.

    Args:
        file: Parquet if its suffix says so, else CSV in UTF-8, divided by tabs in .tsv files and
            by commas in all others. Its first line names the columns.
        choose: Called with the names of all columns; returns the names of those to read, in the
            order of the result.

    Raises:
        DataError: When the file cannot be read, or a cell holds neither text nor a number.
        StoreError: When it is in a store that fails.
    """
    read = _read_parquet if file.suffix.lower() == ".parquet" else _read_csv
    try:
        return read(file, choose)
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise DataError(
            f"{file}: cannot be read as a table ({reason}); expected CSV in UTF-8, or Parquet"
        ) from error


def _read_csv(file: Place, choose: _Choose) -> list[tuple[str, ...]]:
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    # Names of files may be no UTF-8; these come back as the system gives them.
    with TextIOWrapper(file.open("rb"), "utf-8-sig", "surrogateescape", newline="") as text:
        lines = csv.reader(text, delimiter=delimiter, strict=True)
        names = [name.strip() for name in next(lines, [])]
        chosen = [names.index(name) for name in _chosen(names, choose)]
        rows = []
        for row in filter(None, lines):
            if any(row[len(names) :]):
                raise ValueError(
                    f"line {lines.line_num} has {len(row)} values for {len(names)} columns; put "
                    f"quotes around values that contain {delimiter!r}"
                )
            rows.append(tuple(row[at] if at < len(row) else "" for at in chosen))
        return rows


def _read_parquet(file: Place, choose: _Choose) -> list[tuple[str, ...]]:
    # Imported here: few commands read Parquet, and importing it takes time.
    import pyarrow
    from pyarrow import parquet

    with file.open("rb") as stream:
        try:
            table = parquet.ParquetFile(stream)
            chosen = _chosen(table.schema_arrow.names, choose)
            content = table.read(columns=list(dict.fromkeys(chosen)))
        except pyarrow.ArrowException as error:
            raise ValueError(str(error)) from error
    columns = ([_text(value, name) for value in content[name].to_pylist()] for name in chosen)
    return list(zip(*columns, strict=True))


def _chosen(names: Sequence[str], choose: _Choose) -> Sequence[str]:
    chosen = choose(names)
    if twice := [name for name in chosen if names.count(name) > 1]:
        raise ValueError(f"it has the column {twice[0]} twice")
    return chosen


def _text(value: object, column: str) -> str:
    """Return a value of a Parquet file as text; empty for what pandas writes where none is known.

    Raises:
        ValueError: When it is a list, bytes or the like.
    """
    if value is None or value != value:  # NaN alone differs from itself
        return ""
    if not isinstance(value, str | Number):
        kind = type(value).__name__
        raise ValueError(f"the column {column} holds {kind}, expected text or numbers")
    return str(value)
