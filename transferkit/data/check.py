"""Read every image of an index once: its digest, and whether it can be decoded."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from transferkit.data.images import ImageError, decode_image, read_bytes
from transferkit.data.index import ImageIndex
from transferkit.errors import DataError, name_some
from transferkit.reporting import LeftOut, Reporter


@dataclass(frozen=True)
class CheckedIndex:
    """An index whose images are all known to decode.

    Attributes:
        index: The readable images; the others are among its `left_out`.
        sha256: N digests of the files, hexadecimal.
    """

    index: ImageIndex
    sha256: tuple[str, ...]


def check_images(index: ImageIndex, *, workers: int, reporter: Reporter) -> CheckedIndex:
    """Decode every image of `index` in `workers` threads and leave out what fails.

    Raises:
        DataError: When no image can be read.
    """
    digests: list[str] = []
    unreadable: list[LeftOut] = []
    with reporter.progress("checking images", len(index)) as progress:
        for path, (digest, reason) in zip(
            index.paths, _map(index.files, workers=workers), strict=True
        ):
            if reason:
                unreadable.append(LeftOut(path, reason, unreadable=True))
            else:
                digests.append(digest)
            progress.advance(1)
    if not digests:
        told = [f"{item.path} ({item.reason})" for item in unreadable]
        raise DataError(f"{index.root}: none of its images can be read: {name_some(told)}")
    return CheckedIndex(index.without(tuple(unreadable)), tuple(digests))


def _map(files: list[Path], *, workers: int) -> Iterator[tuple[str, str]]:
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            yield from pool.map(_digest_and_reason, files)
        finally:
            # Ctrl-C must not wait for the images that nobody has begun with.
            pool.shutdown(cancel_futures=True)


def _digest_and_reason(path: Path) -> tuple[str, str]:
    try:
        data = read_bytes(path)
        decode_image(data)
    except ImageError as error:
        return "", str(error)
    return hashlib.sha256(data).hexdigest(), ""
