"""Writing files whole: a reader sees the finished file or none; and what a file's digest is.

Everything a run leaves is written under a temporary name beside its final one, flushed to the
device, then renamed.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from transferkit.errors import OutputError


@contextmanager
def whole_file(path: Path, *, size: int = 0) -> Iterator[Path]:
    """Yield a temporary path to write; it becomes `path` when the block ends without an error.

    Args:
        path: Final place. An existing file there is replaced.
        size: Bytes that will be written, for the message when there is no room; 0 for few.

    Raises:
        OutputError: When the place cannot be written, a full device included. Nothing is then
            left under the final name that was not there before.
    """
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
def whole_folder(path: Path, *, size: int = 0) -> Iterator[Path]:
    """Yield a temporary folder to fill; it becomes `path` when the block ends without an error.

    Args:
        path: Final place. A folder already there is replaced.
        size: Bytes that will be written, for the message when there is no room; 0 for few.

    Raises:
        OutputError: When the place cannot be written, a full device included.
    """
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


def require_place(path: Path) -> None:
    """Check early, before long work, that a file can be made at `path`.

    Raises:
        OutputError: When its folder cannot be made or written.
    """
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(path)
        temporary.touch()
        temporary.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole.

    Raises:
        OutputError: When the place cannot be written.
    """
    with whole_file(path) as temporary:
        temporary.write_text(json_text(value, indent=2) + "\n", encoding="utf-8")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """`value` as JSON, readable and valid UTF-8.

    Bytes of a file name that are no UTF-8, which Python holds as lone surrogates, become JSON's
    own escapes, so that reading gives the same name back.
    """
    return utf8_text(json.dumps(value, indent=indent, ensure_ascii=False))


def utf8_text(text: str) -> str:
    r"""`text` with what UTF-8 cannot hold written as escapes such as `\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _explained(path: Path, size: int = 0) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        # safetensors has an error of its own for a full device.
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
    # Beside the final place, so that the rename stays on one device; short, so that a final name
    # of the longest allowed length still has room.
    return path.parent / f".transferkit-{secrets.token_hex(6)}"
