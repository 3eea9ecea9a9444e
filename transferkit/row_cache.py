"""A cache on disk of computed rows of numbers, addressed by what they were computed from.

An entry holds the output of one computation for many images, such as the features of one network in
one precision for one view. Its rows are named by the SHA-256 of the image's file. It is a folder of
pairs of files; each pair is written once and atomically renamed into place. Any number of runs may
therefore read an entry and add to it at the same time; at worst two of them compute the same row.
"""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
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
ABOUT = "about.json"
"""The file of an entry that describes the computation."""

_ROWS, _NAMES = ".rows.npy", ".names.npy"
_VALUES = "values.json"
_VERSION = 1
_NAME_BYTES = 32


def cache_folder() -> Path:
    """Return the folder of all entries: `TRANSFERKIT_CACHE`, else the user's cache folder.

    Where users keep caches follows each system's custom: `$XDG_CACHE_HOME` or `~/.cache` on Linux,
    `~/Library/Caches` on macOS, `%LOCALAPPDATA%` on Windows.
    """
    if given := os.environ.get(FOLDER_VARIABLE):
        return Path(given)
    return platformdirs.user_cache_path("transferkit", appauthor=False)


def entry_key(about: Mapping[str, Any]) -> str:
    """Return the name of an entry's folder, which follows from what describes the computation."""
    return sha256(json_text(dict(sorted(about.items()))).encode()).hexdigest()[:32]


def cached_json(about: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
    """Return JSON values that are computed once, and then read from the cache.

    Args:
        about: Everything that they depend on, as JSON values.
        compute: Computes them.

    Raises:
        OutputError: When they cannot be kept.
    """
    folder = cache_folder() / entry_key(about)
    try:
        values = json.loads((folder / _VALUES).read_text("utf-8"))
    except (OSError, ValueError):
        values = compute()
        write_json(folder / _VALUES, values)
        write_json(folder / ABOUT, dict(about))
        return values
    with suppress(OSError):
        os.utime(folder / ABOUT)
    return values


class Rows:
    """Named rows of numbers, in memory.

    Args:
        others: Rows to start with.
    """

    def __init__(self, others: "Rows | None" = None) -> None:
        self._parts: list[NDArray[Any]] = list(others._parts) if others else []
        self._places: dict[str, tuple[int, int]] = dict(others._places) if others else {}

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def gather(self, names: Iterable[str]) -> NDArray[Any]:
        """Return the rows of these names as one array, in the order of the names."""
        places = (self._places[name] for name in names)
        return np.stack([self._parts[part][place] for part, place in places])

    def add(self, names: Sequence[str], rows: NDArray[Any]) -> None:
        """Add rows; a new row replaces an older one of the same name."""
        for place, name in enumerate(names):
            self._places[name] = (len(self._parts), place)
        self._parts.append(rows)


class CacheEntry(Rows):
    """The rows of one computation that are on disk.

    Args:
        identity: Everything that the rows depend on besides the image, as JSON values.
        dtype: Type of the rows.
        shape: Shape of one row.
    """

    def __init__(
        self, identity: Mapping[str, Any], dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        about = {**identity, "dtype": str(dtype), "shape": list(shape), "version": _VERSION}
        self.key = entry_key(about)
        self._folder = cache_folder() / self.key
        self._about, self._dtype, self._shape = about, dtype, shape
        for names_file in sorted(self._folder.glob(f"*{_NAMES}")):
            self._read(names_file.name.removesuffix(_NAMES))
        if self._parts:
            # Entries are removed by their time of last use. A shared entry may be read-only.
            with suppress(OSError):
                os.utime(self._folder / ABOUT)

    def _read(self, stem: str) -> None:
        """Read a pair of files; skip a damaged one, whose rows then count as missing."""
        names = _mapped(self._folder / f"{stem}{_NAMES}")
        rows = _mapped(self._folder / f"{stem}{_ROWS}")
        if names is None or rows is None or names.shape != (len(rows), _NAME_BYTES):
            return
        if rows.dtype == self._dtype and rows.shape[1:] == self._shape:
            super().add([bytes(name).hex() for name in names], rows)

    def add(self, names: Sequence[str], rows: NDArray[Any]) -> None:
        """Write rows to disk, where later runs find them too.

        Args:
            names: SHA-256 of the images' files, hexadecimal.
            rows: One row per name.

        Raises:
            OutputError: When they cannot be written.
        """
        stem = secrets.token_hex(8)
        if not (self._folder / ABOUT).exists():
            write_json(self._folder / ABOUT, self._about)
        # The names are written last: if they exist, the rows are complete.
        _save(self._folder / f"{stem}{_ROWS}", rows)
        as_bytes = np.array([list(bytes.fromhex(name)) for name in names], dtype=np.uint8)
        _save(self._folder / f"{stem}{_NAMES}", as_bytes)
        self._read(stem)


@dataclass(frozen=True)
class EntrySummary:
    """One line in the list of entries.

    Attributes:
        key: Name of the entry's folder.
        what: Description of the computation.
        rows: Number of rows.
        size: Size in bytes.
        used: Time of last use, in seconds since 1970.
    """

    key: str
    what: str
    rows: int
    size: int
    used: float


def list_entries() -> list[EntrySummary]:
    """Return all entries, the most recently used first."""
    found = (_summary(about.parent) for about in cache_folder().glob(f"*/{ABOUT}"))
    return sorted((entry for entry in found if entry), key=lambda entry: -entry.used)


def remove_entries(keys: Iterable[str]) -> None:
    """Remove entries; a run that is reading one keeps the files that it has opened.

    Raises:
        OutputError: When an entry cannot be removed.
    """
    for key in keys:
        try:
            shutil.rmtree(cache_folder() / key)
        except FileNotFoundError:
            continue  # another run removed it first
        except OSError as error:
            raise OutputError(
                f"cannot remove {cache_folder() / key}: {error.strerror or error}; fix that, or "
                f"name another folder in {FOLDER_VARIABLE}"
            ) from error


def make_room(limit: int, *, keep: str) -> list[EntrySummary]:
    """Remove the least recently used entries until the rest take at most `limit` bytes.

    Args:
        limit: Bytes that all entries may take together.
        keep: Key of an entry that is never removed.

    Returns:
        The removed entries.

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
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        names = [_mapped(path) for path in folder.glob(f"*{_NAMES}")]
        return EntrySummary(
            key=folder.name,
            what=str(about["what"]),
            rows=sum(len(part) for part in names if part is not None),
            size=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            used=(folder / ABOUT).stat().st_mtime,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # another run is removing it, or it is not an entry


def _mapped(path: Path) -> NDArray[Any] | None:
    """Map a .npy file into memory, or return None if it is damaged; no pickle is loaded."""
    try:
        loaded: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return loaded


def _save(path: Path, values: NDArray[Any]) -> None:
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, values, allow_pickle=False)
