"""Find the images below a folder, following links without entering any folder twice."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from transferkit.data.trees import LOCAL, Tree

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

    path: PurePath
    reason: str = ""
    unreadable: bool = False


def walk_images(folder: PurePath, entered: set[str], tree: Tree = LOCAL) -> Iterator[Found]:
    """Yield every image below `folder`, and everything else there with the reason to skip it.

    Args:
        folder: Folder to start from.
        entered: Real paths of folders to skip; every folder that is entered is added.
        tree: Where the folder is.
    """
    entered.add(tree.real_path(folder))
    try:
        entries = sorted(tree.entries(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Found(folder, (error.strerror or str(error)).lower(), unreadable=True)
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            yield Found(path, "hidden")
        elif entry.is_folder:
            if tree.real_path(path) in entered:
                yield Found(path, ALREADY_READ)
            else:
                yield from walk_images(path, entered, tree)
        elif path.suffix.lower() not in SUFFIXES:
            yield Found(path, "not an image")
        else:
            yield Found(path)
