"""The images that a command's inputs name. Imports no torch."""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transferkit.data.images import ImageSource
from transferkit.data.index import ImageIndex
from transferkit.data.walk import walk_images
from transferkit.errors import DataError
from transferkit.reporter import Reporter

STANDARD_INPUT = "-"


def expand_inputs(inputs: Sequence[str | ImageSource], listed: Iterable[str]) -> list[ImageSource]:
    """Return the files of all inputs: a folder's images, a pattern's matches, or the path itself.

    A folder without images and a pattern without matches are kept as paths; they become records
    with an error. Images that are no paths are kept as well.

    Args:
        inputs: Files, folders, patterns, `-`, or images.
        listed: The paths that replace `-`.

    Raises:
        DataError: When the inputs name no files.
    """
    paths: list[ImageSource] = []
    count = 0
    for given in inputs:
        more: list[Any]
        if not isinstance(given, str):
            more = [given]
        elif given == STANDARD_INPUT:
            more = [line for line in (entry.rstrip("\r\n") for entry in listed) if line]
        elif os.path.isdir(given):
            more = _images_in(given)
        elif not os.path.lexists(given) and glob.has_magic(given):
            # A quoted pattern arrives unexpanded, as does any from a shell without patterns.
            matches = sorted(glob.glob(given, recursive=True))
            more = [
                path
                for match in matches
                for path in (_images_in(match) if os.path.isdir(match) else [match])
            ]
        else:
            more = [given]
        count += len(more)
        paths += more or [given]
    if not count:
        raise DataError(
            f"no images in {', '.join(map(str, inputs))}; expected image files, folders of them, "
            "or patterns"
        )
    return paths


def _images_in(folder: str) -> list[str]:
    # A subfolder that cannot be read stays an input and becomes a record with an error.
    return [
        str(found.path)
        for found in walk_images(Path(folder), set())
        if not found.reason or found.unreadable
    ]


def tell_layout(index: ImageIndex, reporter: Reporter) -> None:
    """Report what a dataset's folders were understood to be, unless each is a class."""
    if index.layout:
        reporter.notice(f"{index.root}: {index.layout}")
