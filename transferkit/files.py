"""Write files atomically, so that a reader sees the finished file or none; digests of files.

Every file of a run is written under a temporary name beside its final one, flushed to the device,
and then renamed.
"""

import hashlib
import itertools
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError

from transferkit.errors import OutputError
from transferkit.places import Place, Url


@contextmanager
def whole_file(path: Place, *, size: int = 0) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes `path` if the block ends without an error.

    A file in a store is written on this machine first, and then stored whole.

    Args:
        path: Final path. An existing file is replaced.
        size: Bytes that will be written, for the message if the device is full; 0 for a small file.

    Raises:
        OutputError: When the file cannot be written, for example because the device is full. The
            final path is then unchanged.
        StoreError: When the store fails.
    """
    if isinstance(path, Url):
        with _explained(path, size), TemporaryDirectory() as folder:
            yield (written := Path(folder, path.name))
            path.put(written)
        return
    with _explained(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(path)
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Place, *, last: str, size: int = 0) -> Iterator[Path]:
    """Yield a temporary folder to fill; it becomes `path` if the block ends without an error.

    In a store, files are stored one by one.

    Args:
        path: Final path. An existing folder is replaced.
        last: The file without which readers do not take it for such a folder; it is stored last.
        size: Bytes that will be written, for the message if the device is full; 0 for few.

    Raises:
        OutputError: When the folder cannot be written, for example because the device is full.
        StoreError: When the store fails.
    """
    if isinstance(path, Url):
        with _explained(path, size), TemporaryDirectory() as folder:
            yield Path(folder)
            remove_folder(path)
            for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == last):
                (path / file.name).put(file)
        return
    with _explained(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(path)
        try:
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            shutil.rmtree(path, ignore_errors=True)
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Place) -> None:
    """Remove a folder with everything in it, as far as it is there."""
    if not isinstance(path, Url):
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists():
        path.remove()


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder; its files move into `folder` if the block ends without an error.

    Args:
        folder: Where the files go. Existing files of the same names are replaced.

    Raises:
        OutputError: When they cannot be written, for example because the device is full.
    """
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(folder / "files")
        try:
            temporary.mkdir()
            yield temporary
            for file in sorted(temporary.iterdir()):
                _flush(file)
                file.replace(folder / file.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def numbered(first: Path) -> Iterator[Path]:
    """Yield a path, and then the same with -2, -3 and so on."""
    yield first
    for count in itertools.count(2):
        yield first.with_name(f"{first.name}-{count}")


def require_new(path: Place, *, overwrite: bool) -> None:
    """Check that no file is replaced unless that is wanted.

    Raises:
        OutputError: When `path` exists, and `overwrite` is false or it is a folder.
        StoreError: When it is in a store that fails.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, expected the name of a file")
    if not overwrite and (path.exists() if isinstance(path, Url) else os.path.lexists(path)):
        raise OutputError(
            f"{path}: already exists; name another with --output, or replace it with --overwrite"
        )


def require_place(path: Place) -> None:
    """Check before long work that a file can be created at `path`, unless that is in a store.

    Raises:
        OutputError: When its folder cannot be created or written to.
    """
    if isinstance(path, Url):
        return  # a store tells only when something is written
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(path)
        temporary.touch()
        temporary.unlink()


def write_json(path: Place, value: Any) -> None:
    """Write `value` as indented JSON, atomically.

    Raises:
        OutputError: When the file cannot be written.
    """
    with whole_file(path) as temporary:
        temporary.write_text(json_text(value, indent=2) + "\n", encoding="utf-8")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return `value` as readable JSON in valid UTF-8.

    A number that is not finite becomes null, because JSON has no other numbers.

    Bytes of a file name that are not UTF-8, which Python represents as lone surrogates, become
    escapes of JSON, so that reading the JSON returns the same name.
    """
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_only_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return utf8_text(text)


def _only_finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _only_finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_only_finite(inner) for inner in value]
    return value


def utf8_text(text: str) -> str:
    r"""Return `text` with characters that UTF-8 cannot represent as escapes such as `\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def file_digest(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _explained(path: Place, size: int = 0) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        # safetensors reports a full device by an error of its own.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        needed = f" ({size / 1e6:.0f} MB are needed)" if size else ""
        raise OutputError(
            f"cannot write {path}: {reason}{needed}; nothing was changed there, "
            "choose another place or make room and run again"
        ) from error


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _temporary_name(path: Path) -> Path:
    # In the same folder, so that the rename stays on one device. Its length does not depend on the
    # final name, which may have the longest allowed length.
    return path.parent / f".transferkit-{secrets.token_hex(6)}"
