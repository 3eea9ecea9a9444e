"""Where files are: paths of this machine, and addresses in stores that fsspec knows, such as S3.

fsspec and the package of a store are imported when the first address is used.
"""

from __future__ import annotations

import errno
import io
import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, overload

from transferkit.errors import StoreError

_T = TypeVar("_T")

_PREFIX = re.compile(r"[A-Za-z][\w+.-]*(?:::[A-Za-z][\w+.-]*)*://")
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds, on average, until a store that fails is asked again; then it is given up."""

_S3 = {"connect_timeout": 10, "read_timeout": 10, "retries": {"max_attempts": 0}}
"""Settings of the client for S3, whose layers would try 25 times in all before they give up."""

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
"""Protocol -> the extra of transferkit that installs its package."""

_STATES = (
    *("ETag", "etag", "md5Hash", "blob_id", "generation"),
    *("mtime", "LastModified", "last_modified", "updated", "created"),
)
"""What stores call the part of a file's description that changes with its content, best first."""

_LACKING = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError")
"""Errors of clients, of no common class, that another attempt does not change."""

_BLOCK = 4 * 2**20
"""Bytes that are asked for at once when a stored file is read piece by piece."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a store.

    Attributes:
        size: Bytes; None if the store tells none.
        state: Text that changes when the content does; empty if the store tells none.
    """

    size: int | None
    state: str


class _Patience(threading.local):
    """How long the current thread goes on asking a store that fails: until `stopped` is set."""

    def __init__(self) -> None:
        self.stopped = threading.Event()


_patience = _Patience()


@contextmanager
def asking_until(stopped: threading.Event) -> Iterator[None]:
    """Let this thread ask a failing store at most once more, within the block, after an event."""
    before, _patience.stopped = _patience.stopped, stopped
    try:
        yield
    finally:
        _patience.stopped = before


class Url(str):
    """The address of a file or folder in a store, with those methods of paths that are needed.

    Methods that ask the store raise `StoreError` when it cannot be reached or does not deliver, and
    OSError when there is no such file or it may not be used.

    >>> Url("s3://photos/cats/") / "1.jpg"
    's3://photos/cats/1.jpg'
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Url:
        """Make an address of text.

        Raises:
            ValueError: When the text is not an address.
        """
        prefix = _PREFIX.match(text)
        if not prefix:
            raise ValueError(f"expected an address such as s3://bucket/folder, got {text!r}")
        return super().__new__(cls, prefix[0] + text.removeprefix(prefix[0]).rstrip("/"))

    def __truediv__(self, name: str) -> Url:
        return Url(f"{self}/{name}")

    @property
    def name(self) -> str:
        """Its last part."""
        return self._path.name

    @property
    def suffix(self) -> str:
        """The last suffix of its name, with the dot."""
        return self._path.suffix

    @property
    def parent(self) -> Url:
        """The folder around it."""
        return self._at(str(self._path.parent))

    def exists(self) -> bool:
        """Return whether there is a file or folder."""
        return bool(self._look(lambda store, path: store.exists(path)))

    def is_dir(self) -> bool:
        """Return whether it is a folder."""
        return bool(self._look(lambda store, path: store.isdir(path)))

    def is_file(self) -> bool:
        """Return whether it is a file."""
        return bool(self._look(lambda store, path: store.isfile(path)))

    def state(self) -> str:
        """Return text that changes when the file's content does; empty if the store tells none."""
        return _state(self._look(lambda store, path: store.info(path)))

    def files(self) -> dict[str, StoredFile]:
        """Return all files below it by their paths relative to it; none if there is no folder."""
        try:
            root, found = self._look(lambda store, path: (path, store.find(path, detail=True)))
        except FileNotFoundError:
            return {}  # as for a folder, though its bucket is missing
        start = f"{root}/" if root else ""
        return {
            path.removeprefix(start): StoredFile(entry.get("size"), _state(entry))
            for path, entry in found.items()
            if path.startswith(start) and not path.endswith("/")
        }

    def iterdir(self) -> Iterator[Url]:
        """Yield what is in the folder."""
        yield from {self / name.partition("/")[0]: None for name in self.files()}

    def matches(self) -> list[Url]:
        """Return the files and folders that it names as a pattern, sorted."""
        try:
            found = self._look(lambda store, path: store.glob(path))
        except FileNotFoundError:
            return []
        return [self._at(path) for path in sorted(found)]

    def read_bytes(self, start: int | None = None, stop: int | None = None) -> bytes:
        """Return the content, or the bytes from `start` to `stop`."""
        if start is not None and start == stop:
            return b""

        def read(store: Any, path: str) -> bytes:
            content = bytes(store.cat_file(path, start=start, end=stop))
            if start is not None and stop is not None and len(content) < stop - start:
                raise EOFError(f"got {len(content)} of {stop - start} bytes")
            return content

        return self._ask("read", read)

    def read_text(self, encoding: str) -> str:
        """Return the content as text."""
        return self.read_bytes().decode(encoding)

    @overload
    def open(self, mode: Literal["rb"]) -> io.BufferedReader | io.BytesIO: ...

    @overload
    def open(
        self, mode: Literal["r"] = "r", *, encoding: str, newline: str, errors: str | None = None
    ) -> io.TextIOWrapper: ...

    def open(
        self,
        mode: str = "r",
        *,
        encoding: str | None = None,
        newline: str | None = None,
        errors: str | None = None,
    ) -> Any:
        """Return the file, opened for reading at any place."""
        size = self._look(lambda store, path: store.info(path)["size"])
        content: Any = (
            io.BytesIO(self.read_bytes())
            if size is None
            else io.BufferedReader(_Reader(self, size), _BLOCK)
        )
        return content if mode == "rb" else io.TextIOWrapper(content, encoding, errors, newline)

    def put(self, file: Path) -> None:
        """Store a file of this machine here, whole or not at all."""
        self._ask("written", lambda store, path: store.put_file(str(file), path))

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove the file."""
        if not missing_ok or self.is_file():
            self._ask("removed", lambda store, path: store.rm_file(path))

    def remove(self) -> None:
        """Remove the file, or the folder with everything below it."""
        self._ask("removed", lambda store, path: store.rm(path, recursive=True))

    @property
    def _path(self) -> PurePosixPath:
        return PurePosixPath(_split(self)[1])

    def _at(self, path: str) -> Url:
        """Return the address of another path in the same store."""
        if is_url(path):
            return Url(path)
        return Url(_split(self)[0] + (path if self._path.is_absolute() else path.lstrip("/")))

    def _look(self, look: Callable[[Any, str], _T]) -> _T:
        """Look the address up, without what fsspec remembers of earlier looks."""

        def look_again(store: Any, path: str) -> _T:
            store.invalidate_cache()
            return look(store, path)

        try:
            return self._ask("looked up", look_again)
        except PermissionError as error:
            raise StoreError(
                f"{self}: may not be looked up (permission denied); check your credentials, and "
                "whether they may list it"
            ) from error

    def _ask(self, what: str, ask: Callable[[Any, str], _T]) -> _T:
        """Ask the store, and ask again after a while if it fails.

        Args:
            what: What the address cannot be if it fails every time, such as "read".
            ask: Called with the store and the path in it.
        """
        store, path = _store_of(self)
        for tries, wait in enumerate((*_WAITS, None), start=1):
            try:
                return ask(store, path)
            except FileNotFoundError as error:
                raise FileNotFoundError(errno.ENOENT, "no such file or folder", self) from error
            except PermissionError as error:
                raise PermissionError(errno.EACCES, "permission denied", self) from error
            except Exception as error:
                # Every store has errors of its own, which have nothing in common but this class.
                if wait is None or _patience.stopped.is_set() or _is_final(error):
                    reason = " ".join(str(error).split()) or type(error).__name__
                    many = "time" if tries == 1 else "times"
                    raise StoreError(
                        f"{self}: cannot be {what} ({reason}; tried {tries} {many}); "
                        "check the address, the network and your credentials, and run again"
                    ) from error
                _patience.stopped.wait(wait * random.uniform(0.5, 1.5))
        raise AssertionError("the last attempt returns or raises")


Place = Url | Path
"""A file or folder of this machine, or in a store."""


def is_url(text: str) -> bool:
    """Return whether text is an address in a store, not a path of this machine."""
    return _PREFIX.match(text) is not None


def is_pattern(url: Url) -> bool:
    """Return whether an address is a pattern of others; `?` begins the query of a web address."""
    magic = "*[" if url.startswith(("http://", "https://")) else "*?["
    return any(sign in url for sign in magic)


def place(text: str) -> Place:
    """Return the place that text names."""
    return Url(text) if is_url(text) else Path(text)


def place_from(root: Place, path: str) -> Place:
    """Return the place of a path relative to a folder; absolute paths and addresses need none.

    >>> place_from(Url("s3://photos"), "cats/1.jpg"), place_from(Path("photos"), "s3://cats/1.jpg")
    ('s3://photos/cats/1.jpg', 's3://cats/1.jpg')
    """
    if is_url(path) or Path(path).is_absolute():
        return place(path)
    return root / path


class _Reader(io.RawIOBase):
    """A stored file, of which every read asks for the bytes of one range."""

    def __init__(self, url: Url, size: int) -> None:
        self._url, self._size, self._position = url, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        stop = min(self._position + len(buffer), self._size)
        if stop <= self._position:
            return 0
        content = self._url.read_bytes(self._position, stop)
        buffer[: len(content)] = content
        self._position = stop
        return len(content)


def _store_of(url: Url) -> tuple[Any, str]:
    """Return fsspec's file system for an address, and the path in it.

    Raises:
        StoreError: When its package is not installed, or no store has this protocol.
    """
    from fsspec.config import conf
    from fsspec.core import url_to_fs

    prefix, inside = _split(url)
    bucket, _, key = inside.partition("/")
    # The key is kept from fsspec, which takes `::` in an address for the end of a chain.
    given = prefix + bucket if "::" in key else str(url)
    protocol = prefix.removesuffix("://").rpartition("::")[2]
    own: dict[str, Any] = {}
    if _EXTRAS.get(protocol) == "s3" and "config_kwargs" not in conf.get(protocol, {}):
        own = {protocol: {"config_kwargs": _S3}}
    try:
        store, path = url_to_fs(given, **own)
    except ImportError as error:
        package = f"'transferkit[{_EXTRAS[protocol]}]'" if protocol in _EXTRAS else "its package"
        raise StoreError(f"{url}: {error}; install it with: pip install {package}") from error
    except ValueError as error:
        raise StoreError(
            f"{url}: {error}; expected a path, or an address that fsspec knows, such as "
            "s3://bucket/folder"
        ) from error
    if own:
        getattr(store, "fs", store).retries = 1  # in a chain, it is the innermost that asks
    return store, f"{path}/{key}" if given != url else path


def _split(url: str) -> tuple[str, str]:
    """Return the protocol of an address with `://`, and what follows."""
    prefix = _PREFIX.match(url)
    assert prefix  # every address has one
    return prefix[0], url.removeprefix(prefix[0])


def _is_final(error: Exception) -> bool:
    """Return whether another attempt would fail in the same way."""
    wrong = (IsADirectoryError, NotADirectoryError, NotImplementedError, TypeError, ValueError)
    return isinstance(error, wrong) or type(error).__name__ in _LACKING


def _state(entry: Mapping[str, Any]) -> str:
    return next((f"{key} {entry[key]}" for key in _STATES if entry.get(key)), "")
