"""Read every image of an index once: its digest, its signature, whether it can be decoded.

What was found is remembered, by the state of a file and by its content, so that the next run reads
nothing of files that have not changed, and decodes nothing of content that it knows.
"""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Event
from time import time_ns

import numpy as np
import PIL
from numpy.typing import NDArray

from transferkit.data.copies import NEEDED, SIGNATURE_BYTES, signature
from transferkit.data.images import VERSION, ImageError, decode_image, read_bytes
from transferkit.data.index import ImageIndex
from transferkit.data.parallel import map_in_order
from transferkit.errors import DataError, OutputError, name_some
from transferkit.reporting import LeftOut, Reporter
from transferkit.row_cache import CacheEntry, Rows

_AHEAD = 4
_DIGEST_BYTES = 32
_SETTLED_NS = 2 * 10**9
"""A file changed less than this ago could change again without its state telling."""


class Stopped(Exception):
    """The check was told to stop; nobody waits for what it found."""


@dataclass(frozen=True)
class CheckedIndex:
    """An index whose images are all known to decode.

    Attributes:
        index: The readable images; the others are among its `left_out`.
        sha256: N digests of the files, hexadecimal.
        signatures: (N, 80) uint8, what they look like.
    """

    index: ImageIndex
    sha256: tuple[str, ...]
    signatures: NDArray[np.uint8]


@dataclass(frozen=True)
class _Found:
    """What a look at a file gave.

    Attributes:
        reason: Why it cannot be used; empty where it can.
        digest: SHA-256 of its content, hexadecimal.
        signature: What it looks like, (80,) uint8.
        state: Digest of its state, by which it is found again; None where that is not safe.
        is_new: Whether it was not known by its state.
    """

    reason: str = ""
    digest: str = ""
    signature: NDArray[np.uint8] | None = None
    state: str | None = None
    is_new: bool = True


def check_images(
    index: ImageIndex,
    *,
    workers: int,
    reporter: Reporter,
    remember: bool = False,
    allow_truncated: bool = False,
    stop: Event | None = None,
) -> CheckedIndex:
    """Decode every image of `index` in `workers` threads and leave out what fails.

    Args:
        index: The images.
        workers: How many threads.
        reporter: Told of the progress.
        remember: Whether what is found is kept for the next run.
        allow_truncated: Whether JPEGs are taken whose end is missing.
        stop: Ends the check early once it is set.

    Raises:
        Stopped: When `stop` was set.
        DataError: When no image can be read.
    """
    known = _known(index, allow_truncated) if remember else Rows()

    def look(path: Path) -> _Found:
        return _look(path, known, allow_truncated)

    found: list[_Found] = []
    looking = map_in_order(look, index.files, workers=workers, ahead=_AHEAD * workers)
    with reporter.progress("checking images", len(index)) as progress, closing(looking):
        try:
            for one in looking:
                if stop and stop.is_set():
                    raise Stopped
                found.append(one)
                progress.advance(1)
        finally:
            # Also what an interrupted check has seen serves the next one.
            _remember(known, found, reporter)
    return _checked(index, found)


def _checked(index: ImageIndex, found: Sequence[_Found]) -> CheckedIndex:
    unreadable = [
        LeftOut(path, one.reason, unreadable=True)
        for path, one in zip(index.paths, found, strict=True)
        if one.reason
    ]
    readable = [one for one in found if not one.reason]
    if not readable:
        told = [f"{item.path} ({item.reason})" for item in unreadable]
        raise DataError(f"{index.root}: none of its images can be read: {name_some(told)}")
    signatures = np.stack([one.signature for one in readable if one.signature is not None])
    digests = tuple(one.digest for one in readable)
    return CheckedIndex(index.without(tuple(unreadable)), digests, signatures)


def _look(path: Path, known: Rows, allow_truncated: bool) -> _Found:
    state = _state(path)
    if state is not None and state in known:
        row = known.gather([state])[0]
        digest = row[:_DIGEST_BYTES].tobytes().hex()
        return _Found("", digest, row[_DIGEST_BYTES:], state, is_new=False)
    try:
        data = read_bytes(path)
        digest = sha256(data).hexdigest()
        if digest in known:
            return _Found("", digest, known.gather([digest])[0][_DIGEST_BYTES:], state)
        image = decode_image(data, NEEDED, allow_truncated=allow_truncated)
    except ImageError as error:
        return _Found(str(error))
    return _Found("", digest, signature(image), state)


def _state(path: Path) -> str | None:
    """What tells a changed file from an unchanged one without reading it, as a digest."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None  # reading it will say why
    times = found.st_mtime_ns, found.st_ctime_ns
    if max(times) > time_ns() - _SETTLED_NS:
        return None
    told = (os.fsencode(os.path.abspath(path)), found.st_size, found.st_ino, *times)
    return sha256(repr(told).encode()).hexdigest()


def _known(index: ImageIndex, allow_truncated: bool) -> CacheEntry:
    """What earlier runs found in this folder, by the states and by the contents of files."""
    root = os.path.abspath(index.root)
    identity = {
        "what": f"images of {root}, checked",
        "root": root,
        "allow_truncated": allow_truncated,
        "decoding": VERSION,
        "pillow": PIL.__version__,
    }
    return CacheEntry(identity, np.dtype(np.uint8), (_DIGEST_BYTES + SIGNATURE_BYTES,))


def _remember(known: Rows, found: Sequence[_Found], reporter: Reporter) -> None:
    if not isinstance(known, CacheEntry):
        return
    rows: dict[str, bytes] = {}
    for one in found:
        if one.is_new and one.signature is not None:
            row = bytes.fromhex(one.digest) + one.signature.tobytes()
            rows |= {name: row for name in (one.state, one.digest) if name is not None}
    missing = [name for name in rows if name not in known]
    if not missing:
        return
    table = np.frombuffer(b"".join(rows[name] for name in missing), dtype=np.uint8)
    try:
        known.add(missing, table.reshape(len(missing), -1))
    except OutputError as error:
        reporter.notice(f"{error}; the next run will check all images again")
