"""Read every image of an index once: its digest, its signature, and whether it decodes.

Results are cached by a file's state (path, size, times) and by its content. The next run therefore
does not read unchanged files again, and does not decode known content again.
"""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from time import time_ns

import numpy as np
import PIL
from numpy.typing import NDArray

from transferkit.data.copies import NEEDED, SIGNATURE_BYTES, signature
from transferkit.data.images import (
    VERSION,
    ImageError,
    ImageFile,
    StoredImage,
    decode_image,
    read_bytes,
)
from transferkit.data.index import ImageIndex
from transferkit.data.threads import map_in_order
from transferkit.errors import DataError, OutputError, name_some
from transferkit.places import Url
from transferkit.processes import ALONE, Processes
from transferkit.reporter import LeftOut, Reporter
from transferkit.row_cache import CacheEntry, Rows

_AHEAD = 4
_DIGEST_BYTES = 32
_SETTLED_NS = 2 * 10**9
"""A file changed more recently than this may change again without a change of its state."""


@dataclass(frozen=True)
class CheckedIndex:
    """An index of images that all decode.

    Attributes:
        index: The readable images; the others are in its `left_out`.
        sha256: N digests of the files, hexadecimal.
        signatures: (N, 80) uint8 signatures of what the images look like.
    """

    index: ImageIndex
    sha256: tuple[str, ...]
    signatures: NDArray[np.uint8]


@dataclass(frozen=True)
class _Found:
    """The result of checking one file.

    Attributes:
        reason: Why the file cannot be used; empty if it can.
        digest: SHA-256 of its content, hexadecimal.
        signature: (80,) uint8 signature of what the image looks like.
        state: Digest of the file's state, under which the result is cached; None if that is unsafe.
        is_new: Whether the result is not cached under the file's state yet.
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
    processes: Processes = ALONE,
) -> CheckedIndex:
    """Decode every image of an index, and leave out those that fail.

    Args:
        index: The images.
        workers: Number of threads.
        reporter: Receives the progress.
        remember: Whether to cache the results on disk for later runs.
        allow_truncated: Whether to read JPEGs whose end is missing.
        processes: The processes that decode a share of the images each; all have the result.

    Raises:
        DataError: When no image can be read.
    """
    known = _known(index, allow_truncated) if remember else Rows()

    def look(file: ImageFile) -> _Found:
        return _look(file, known, allow_truncated)

    own, found = processes.share(index.files), list[_Found]()
    looking = map_in_order(look, own, workers=workers, ahead=_AHEAD * workers)
    with reporter.progress("checking images", len(own)) as progress, closing(looking):
        try:
            for one in looking:
                found.append(one)
                progress.advance(1)
        finally:
            # Results of an interrupted check serve the next one.
            _remember(known, found, reporter)
    return _checked(index, processes.gather_shares(found))


def _checked(index: ImageIndex, found: Sequence[_Found]) -> CheckedIndex:
    unreadable = [
        LeftOut(path, one.reason, unreadable=True)
        for path, one in zip(index.paths, found, strict=True)
        if one.reason
    ]
    readable = [one for one in found if not one.reason]
    if not readable:
        reasons = [f"{item.path} ({item.reason})" for item in unreadable]
        raise DataError(f"{index.root}: none of its images can be read: {name_some(reasons)}")
    signatures = np.stack([one.signature for one in readable if one.signature is not None])
    digests = tuple(one.digest for one in readable)
    return CheckedIndex(index.without(tuple(unreadable)), digests, signatures)


def _look(file: ImageFile, known: Rows, allow_truncated: bool) -> _Found:
    state = _state(file)
    if state is not None and state in known:
        row = known.gather([state])[0]
        digest = row[:_DIGEST_BYTES].tobytes().hex()
        return _Found("", digest, row[_DIGEST_BYTES:], state, is_new=False)
    try:
        data = read_bytes(file)
        digest = sha256(data).hexdigest()
        if digest in known:
            return _Found("", digest, known.gather([digest])[0][_DIGEST_BYTES:], state)
        image = decode_image(data, NEEDED, allow_truncated=allow_truncated)
    except ImageError as error:
        return _Found(str(error))
    return _Found("", digest, signature(image), state)


def _state(file: ImageFile) -> str | None:
    """Return a digest that changes with the file, without reading it; None if that is unsafe."""
    if isinstance(file, StoredImage):
        known = (str(file), file.start, file.size, file.state)
        return sha256(repr(known).encode()).hexdigest() if file.state else None
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None  # reading the file will give the reason
    times = found.st_mtime_ns, found.st_ctime_ns
    if max(times) > time_ns() - _SETTLED_NS:
        return None
    state = (os.fsencode(os.path.abspath(file)), found.st_size, found.st_ino, *times)
    return sha256(repr(state).encode()).hexdigest()


def _known(index: ImageIndex, allow_truncated: bool) -> CacheEntry:
    """Return the cached results for this folder, named by state and by content of the files."""
    root = index.root if isinstance(index.root, Url) else os.path.abspath(index.root)
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
