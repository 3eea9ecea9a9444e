"""Images and their labels from a table with a path and a label in each row.

A table may also name the part of a split that an image belongs to, and the group that no split may
separate.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import PurePath

from transferkit.data.class_names import normalized
from transferkit.data.layout import part_named
from transferkit.data.table_file import read_columns
from transferkit.errors import DataError, name_some
from transferkit.places import Place, Url, is_url
from transferkit.reporter import LeftOut

NO_COLUMN = "none"
"""Stands for a column that is not read."""

_USUAL = {
    "path": ("path", "filename", "file_name", "filepath", "file", "image", "image_path"),
    "label": ("label", "class", "target", "category"),
    "split": ("split",),
    "group": ("group",),
}
"""Usual names of the columns, in any case. The first wins; others count if there is one of them."""

_OPTIONAL = ("split", "group")


@dataclass(frozen=True)
class TableReading:
    """How a table of labels is read.

    Attributes:
        path: Name of the column with the paths; None for the usual names.
        label: Name of the column with the labels; None for the usual names.
        split: Name of the column with the parts of a split; None for the usual one, if there is
            one, and `NO_COLUMN` for none.
        group: Name of the column with the groups, likewise.
        root: The folder that paths are relative to; None for the table's own.
    """

    path: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = NO_COLUMN
    root: Place | None = None


@dataclass(frozen=True)
class LabelledPath:
    """A row of a table.

    Attributes:
        path: Path relative to the root, with `/` between the parts; absolute for a file that is
            not below the root; or an address.
        label: Name of its class.
        split: Part of the split; empty if the table does not say.
        group: Name of its group; empty if no groups are read.
    """

    path: str
    label: str
    split: str
    group: str


@dataclass(frozen=True)
class LabelTable:
    """The images of a table.

    Attributes:
        root: The folder that paths are relative to.
        rows: Its rows, sorted by path, each path once.
        left_out: Paths that it names again.
        described: Which columns were read, in a phrase.
    """

    root: Place
    rows: tuple[LabelledPath, ...]
    left_out: tuple[LeftOut, ...]
    described: str


def read_label_table(file: Place, reading: TableReading) -> LabelTable:
    """Read the images of a table and their labels; the images themselves are not looked at.

    Raises:
        DataError: When the table cannot be read or is empty, a column is missing or can be one of
            several, a row lacks a value, or an image has several labels, parts or groups.
        StoreError: When it is in a store that fails.
    """
    columns: dict[str, str] = {}

    def choose(names: Sequence[str]) -> list[str]:
        columns.update(_columns(file, names, reading))
        return list(columns.values())

    read = read_columns(file, choose)
    if not read:
        raise DataError(f"{file}: has no rows; expected a path and a label in each")
    values = dict(zip(columns, zip(*read, strict=True), strict=True))
    root = file.parent if reading.root is None else reading.root
    first, left_out = _each_once(file, _rows(file, values, columns, root))
    sources = ", ".join(f"{what} from {name}" for what, name in columns.items())
    return LabelTable(
        root,
        tuple(sorted(first, key=lambda row: row.path)),
        tuple(left_out),
        f"table {file.name}: {sources}",
    )


def _columns(file: Place, names: Sequence[str], reading: TableReading) -> dict[str, str]:
    """Return what is read -> the name of its column."""
    chosen = {what: _column(file, names, what, getattr(reading, what)) for what in _USUAL}
    return {what: name for what, name in chosen.items() if name is not None}


def _column(file: Place, names: Sequence[str], what: str, given: str | None) -> str | None:
    """Return the name of a column; None for one that is not read.

    Raises:
        DataError: When there is no such column, or several may be meant.
    """
    if given == NO_COLUMN and what in _OPTIONAL:
        return None
    shown = f"it has {name_some(names, 10)}" if names else "it is empty"
    if given is not None:
        if given in names:
            return given
        raise DataError(
            f"{file}: has no column {given}; {shown}; name one of these with --{what}-column"
        )
    first, *others = _USUAL[what]
    found = [name for name in names if name.casefold() == first]
    found = found or [name for name in names if name.casefold() in others]
    if len(found) == 1:
        return found[0]
    if not found and what in _OPTIONAL:
        return None
    if not found:
        raise DataError(
            f"{file}: has no column named {', '.join(_USUAL[what])}; {shown}; name the one that "
            f"holds the {what} with --{what}-column"
        )
    raise DataError(
        f"{file}: its columns {name_some(found)} may each hold the {what}; name one with "
        f"--{what}-column"
    )


def _rows(
    file: Place, values: Mapping[str, Sequence[str]], columns: Mapping[str, str], root: Place
) -> list[LabelledPath]:
    """Return the rows of a table.

    Args:
        file: The table.
        values: What is read -> the N values of its column.
        columns: What is read -> the name of its column.
        root: The folder that paths are relative to.

    Raises:
        DataError: When a row lacks a value, or one cannot be used.
    """
    paths = values["path"]
    if lacking := [f"row {number}" for number, path in enumerate(paths, 1) if not path]:
        raise DataError(
            f"{file}: has no {columns['path']} in {len(lacking)} of {len(paths)} rows: "
            f"{name_some(lacking)}; fill them in, or remove these rows"
        )
    labels = _stripped(file, values["label"], paths, columns["label"])
    groups: Sequence[str] = [""] * len(paths)
    if "group" in values:
        hint = ", or read no groups with --group-column none"
        groups = _stripped(file, values["group"], paths, columns["group"], hint)
    splits: Sequence[str] = [""] * len(paths)
    if "split" in values:
        splits = _parts(file, values["split"], columns["split"])
    start = _start_of(root)
    return [
        LabelledPath(_as_index_writes(path, start), label, split, group)
        for path, label, split, group in zip(paths, labels, splits, groups, strict=True)
    ]


def _stripped(
    file: Place, values: Sequence[str], paths: Sequence[str], column: str, hint: str = ""
) -> list[str]:
    """Return values without spaces around them, in Unicode's form NFC.

    Raises:
        DataError: When a value is empty, or is not text in UTF-8.
    """
    stripped = [normalized(value.strip()) for value in values]
    if lacking := [path for path, value in zip(paths, stripped, strict=True) if not value]:
        raise DataError(
            f"{file}: has no {column} in {len(lacking)} of {len(paths)} rows: "
            f"{name_some(lacking)}; fill them in, or remove these rows{hint}"
        )
    if odd := sorted(value for value in set(stripped) if not _is_unicode(value)):
        raise DataError(
            f"{file}: {name_some([ascii(value) for value in odd])} in the column {column} is not "
            "UTF-8; save the table as UTF-8"
        )
    return stripped


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parts(file: Place, values: Sequence[str], column: str) -> list[str]:
    """Return the part of a split that each value names; empty for an empty one.

    Raises:
        DataError: When a value names no part.
    """
    parts = {value: part_named(value.strip()) for value in set(values)}
    if strange := sorted(value for value, part in parts.items() if value.strip() and not part):
        raise DataError(
            f"{file}: the column {column} holds {name_some(strange)}, expected parts of a split "
            "such as train, val and test; name another column with --split-column, or none"
        )
    return [parts[value] for value in values]


def _each_once(
    file: Place, rows: Iterable[LabelledPath]
) -> tuple[list[LabelledPath], list[LeftOut]]:
    """Return the rows with each path once, and the paths that are named again.

    Raises:
        DataError: When rows of one path differ.
    """
    first: dict[str, LabelledPath] = {}
    again: dict[str, LeftOut] = {}
    differing = []
    for row in rows:
        other = first.setdefault(row.path, row)
        if other is row:
            continue
        if different := _difference(other, row):
            differing.append(f"{row.path} ({different})")
        again[row.path] = LeftOut(row.path, "named again by the table, used once")
    if differing:
        raise DataError(
            f"{file}: {len(differing)} rows contradict another row of the same image: "
            f"{name_some(differing)}; keep one label for each image"
        )
    return list(first.values()), list(again.values())


def _difference(one: LabelledPath, other: LabelledPath) -> str:
    pairs = zip(astuple(one), astuple(other), strict=True)
    return ", ".join(f"{mine or 'none'} and {its or 'none'}" for mine, its in pairs if mine != its)


def _start_of(root: Place) -> str:
    """Return what absolute paths and addresses of files below a folder begin with."""
    whole = root if isinstance(root, Url) else PurePath(os.path.abspath(root)).as_posix()
    return f"{whole.rstrip('/')}/"


def _as_index_writes(path: str, start: str) -> str:
    """Return a path as `LabelledPath` describes it.

    Args:
        path: As the table has it.
        start: What absolute paths below the root begin with.

    >>> _as_index_writes("./cats//1.jpg", "/data/"), _as_index_writes("/data/cats/1.jpg", "/data/")
    ('cats/1.jpg', 'cats/1.jpg')
    """
    return (Url(path) if is_url(path) else PurePath(path).as_posix()).removeprefix(start)
