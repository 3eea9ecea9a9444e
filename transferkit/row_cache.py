"""What has been computed once, on disk: rows of numbers, found again by what they come from.

An entry holds what one computation gives pictures (features of one network, in one precision, of
one view); its rows are named by the SHA-256 of the picture's file. It is a folder of pairs of
files, each pair written once and renamed into place whole. So any number of runs may read and add
to an entry at the same time; at worst two compute the same row.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from transferkit.errors import OutputError
from transferkit.files import json_text, whole_file, write_json

FOLDER_VARIABLE = "TRANSFERKIT_CACHE"
_ABOUT, _ROWS, _NAMES = "about.json", ".rows.npy", ".names.npy"
_VERSION = 1
_NAME_BYTES = 32


def cache_folder() -> Path:
    """Return where entries are: `TRANSFERKIT_CACHE`, else the user's cache folder."""
    if given := os.environ.get(FOLDER_VARIABLE):
        return Path(given)
    return platformdirs.user_cache_path("transferkit", appauthor=False)


class Rows:
    """Rows of numbers by the name of what they belong to, in memory.

    Args:
        others: Rows to begin with.
    """

    def __init__(self, others: "Rows | None" = None) -> None:
        self._parts: list[NDArray[Any]] = list(others._parts) if others else []
        self._places: dict[str, tuple[int, int]] = dict(others._places) if others else {}

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def gather(self, names: Iterable[str]) -> NDArray[Any]:
        """Rows by name, one below the other, in the order of the names."""
        places = (self._places[name] for name in names)
        return np.stack([self._parts[part][place] for part, place in places])

    def add(self, names: Sequence[str], rows: NDArray[Any]) -> None:
        """Keep rows; of a name that has one already the new one holds."""
        for place, name in enumerate(names):
            self._places[name] = (len(self._parts), place)
        self._parts.append(rows)


class CacheEntry(Rows):
    """The rows that one computation gives pictures, as far as they are on disk.

    Args:
        identity: Everything that the rows depend on besides the picture, JSON values.
        dtype: Of the rows.
        shape: Of a row.
    """

    def __init__(
        self, identity: Mapping[str, Any], dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        told = {**identity, "dtype": str(dtype), "shape": list(shape), "version": _VERSION}
        key = sha256(json_text(dict(sorted(told.items()))).encode()).hexdigest()
        self.key = key[:32]
        self._folder = cache_folder() / self.key
        self._about, self._dtype, self._shape = told, dtype, shape
        for names_file in sorted(self._folder.glob(f"*{_NAMES}")):
            self._read(names_file.name.removesuffix(_NAMES))
        if self._parts:
            # The least recently used entry goes first; one that others share may be read only.
            with suppress(OSError):
                os.utime(self._folder / _ABOUT)

    def _read(self, stem: str) -> None:
        """Take up a pair of files; a damaged one is passed over, its rows count as unknown."""
        names = _mapped(self._folder / f"{stem}{_NAMES}")
        rows = _mapped(self._folder / f"{stem}{_ROWS}")
        if names is None or rows is None or names.shape != (len(rows), _NAME_BYTES):
            return
        if rows.dtype == self._dtype and rows.shape[1:] == self._shape:
            super().add([bytes(name).hex() for name in names], rows)

    def add(self, names: Sequence[str], rows: NDArray[Any]) -> None:
        """Write rows by the SHA-256 of their pictures' files, for now and for later.

        Raises:
            OutputError: When they cannot be written.
        """
        stem = secrets.token_hex(8)
        if not (self._folder / _ABOUT).exists():
            write_json(self._folder / _ABOUT, self._about)
        # The names last: where they are, the rows are whole.
        _save(self._folder / f"{stem}{_ROWS}", rows)
        as_bytes = np.array([list(bytes.fromhex(name)) for name in names], dtype=np.uint8)
        _save(self._folder / f"{stem}{_NAMES}", as_bytes)
        self._read(stem)


@dataclass(frozen=True)
class EntrySummary:
    """An entry as the list of them shows it.

    Attributes:
        key: Its folder's name.
        what: What computed it.
        rows: How many rows it holds.
        size: In bytes.
        used: When it was last used, in seconds since 1970.
    """

    key: str
    what: str
    rows: int
    size: int
    used: float


def list_entries() -> list[EntrySummary]:
    """Every entry, the last used first."""
    found = (_summary(about.parent) for about in cache_folder().glob(f"*/{_ABOUT}"))
    return sorted((entry for entry in found if entry), key=lambda entry: -entry.used)


def remove_entries(keys: Iterable[str]) -> None:
    """Remove entries; runs that are reading one keep what they have opened.

    Raises:
        OutputError: When one cannot be removed.
    """
    for key in keys:
        try:
            shutil.rmtree(cache_folder() / key)
        except FileNotFoundError:
            continue  # another run was quicker
        except OSError as error:
            raise OutputError(
                f"cannot remove {cache_folder() / key}: {error.strerror or error}; mend that, or "
                f"name another folder in {FOLDER_VARIABLE}"
            ) from error


def make_room(limit: int, *, keep: str) -> list[EntrySummary]:
    """Remove the least recently used entries until all together take no more than `limit` bytes.

    Args:
        limit: In bytes.
        keep: The key of an entry that stays.

    Returns:
        What was removed.

    Raises:
        OutputError: When an entry cannot be removed.
    """
    kept, removed = 0, []
    for entry in sorted(list_entries(), key=lambda entry: entry.key != keep):
        kept += entry.size
        if kept > limit and entry.key != keep:
            removed.append(entry)
    remove_entries(entry.key for entry in removed)
    return removed


def _summary(folder: Path) -> EntrySummary | None:
    try:
        about = json.loads((folder / _ABOUT).read_text("utf-8"))
        names = [_mapped(path) for path in folder.glob(f"*{_NAMES}")]
        return EntrySummary(
            key=folder.name,
            what=str(about["what"]),
            rows=sum(len(part) for part in names if part is not None),
            size=sum(path.stat().st_size for path in folder.iterdir()),
            used=(folder / _ABOUT).stat().st_mtime,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # removed by another run at this moment, or not ours


def _mapped(path: Path) -> NDArray[Any] | None:
    """A .npy file's content, None of a damaged one; nothing in it is executed."""
    try:
        loaded: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return loaded


def _save(path: Path, values: NDArray[Any]) -> None:
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, values, allow_pickle=False)
