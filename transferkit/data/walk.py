"""Walk a folder for images, following links without ever entering a folder twice."""

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
"""Lower-case suffixes that mark a file as an image."""

ALREADY_READ = "a link to a folder already read"


@dataclass(frozen=True)
class Found:
    """Something in a folder.

    Attributes:
        path: Where it is.
        reason: Why it is no image to use; empty for an image.
        unreadable: Whether it is a folder that may not be read.
    """

    path: Path
    reason: str = ""
    unreadable: bool = False


def walk_images(folder: Path, entered: set[str]) -> Iterator[Found]:
    """Yield everything below `folder`: images, and what is none with its reason.

    Args:
        folder: Where to begin.
        entered: Real paths of folders that are not to be entered; those entered are added.
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
        elif _is_folder(entry):
            if os.path.realpath(path) in entered:
                yield Found(path, ALREADY_READ)
            else:
                yield from walk_images(path, entered)
        elif path.suffix.lower() not in SUFFIXES:
            yield Found(path, "not an image")
        else:
            yield Found(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads to itself, for one; reading it will say why it is no image
