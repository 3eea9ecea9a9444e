"""Read every image of an index once: its digest, and whether it can be decoded."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from transferkit.data.images import ImageError, decode_image, read_bytes
from transferkit.data.index import ImageIndex
from transferkit.data.parallel import map_in_order
from transferkit.errors import DataError, name_some
from transferkit.reporting import LeftOut, Reporter

_AHEAD = 4


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
        read = map_in_order(
            _digest_and_reason, index.files, workers=workers, ahead=_AHEAD * workers
        )
        for path, (digest, reason) in zip(index.paths, read, strict=True):
            if reason:
                unreadable.append(LeftOut(path, reason, unreadable=True))
            else:
                digests.append(digest)
            progress.advance(1)
    if not digests:
        told = [f"{item.path} ({item.reason})" for item in unreadable]
        raise DataError(f"{index.root}: none of its images can be read: {name_some(told)}")
    return CheckedIndex(index.without(tuple(unreadable)), tuple(digests))


def _digest_and_reason(path: Path) -> tuple[str, str]:
    try:
        data = read_bytes(path)
        decode_image(data)
    except ImageError as error:
        return "", str(error)
    return hashlib.sha256(data).hexdigest(), ""
