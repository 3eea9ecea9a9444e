"""Find the images below a folder, following links without entering any folder twice."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = frozenset(
    [
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".mpo",
        ".pbm",
        ".pcx",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".psd",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
        ".heic",
        ".heif",
    ]
)
"""Suffixes, in lower case, of files that count as images."""

ALREADY_READ = "a link to a folder already read"


@dataclass(frozen=True)
class Found:
    """A file or folder that was found.

    Attributes:
        path: Its path.
        reason: Why it is not used as an image; empty for an image.
        unreadable: Whether it is a folder that cannot be read.
    """

    path: Path
    reason: str = ""
    unreadable: bool = False


def walk_images(folder: Path, entered: set[str]) -> Iterator[Found]:
    """Yield every image below `folder`, and everything else there with the reason to skip it.

    Args:
        folder: Folder to start from.
        entered: Real paths of folders to skip; every folder that is entered is added.
    """
    entered.add(os.path.realpath(folder))
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Found(folder, (error.strerror or str(error)).lower(), unreadable=True)
        return
    for entry in entries:
        path = Path(folder, entry.name)
        if entry.name.startswith("."):
            yield Found(path, "hidden")
        elif is_folder(entry):
            if os.path.realpath(path) in entered:
                yield Found(path, ALREADY_READ)
            else:
                yield from walk_images(path, entered)
        elif path.suffix.lower() not in SUFFIXES:
            yield Found(path, "not an image")
        else:
            yield Found(path)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False  # for example a link to itself; reading it will give the reason
