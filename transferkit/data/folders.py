"""What a folder holds, by names alone: subfolders, images in itself, images below it."""

import os
from pathlib import Path

from transferkit.data.walk import SUFFIXES, is_folder
from transferkit.errors import DataError


def holds_folders(folder: Path) -> bool:
    """Return whether a folder's images lie in subfolders and not in itself."""
    return not has_loose_images(folder) and bool(image_folders(folder))


def image_folders(folder: Path) -> list[Path]:
    """Return the subfolders with images; a link to a folder around them is none."""
    around = real_paths_around(folder)
    return [f for f in subfolders(folder) if _holds_images(f, around)]


def real_paths_around(folder: Path) -> frozenset[str]:
    """Return the real paths of a folder and of all folders around it."""
    return frozenset(os.path.realpath(path) for path in (folder, *folder.parents))


def _holds_images(folder: Path, entered: frozenset[str]) -> bool:
    """Return whether there is an image below a folder, or a part of it that cannot be read."""
    real = os.path.realpath(folder)
    if real in entered:
        return False
    below = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if is_folder(entry):
                    below.append(Path(folder, entry.name))
                elif Path(entry.name).suffix.lower() in SUFFIXES:
                    return True
    except OSError:
        return True  # reading it gives the reason
    return any(_holds_images(inside, entered | {real}) for inside in below)


def has_loose_images(folder: Path) -> bool:
    """Return whether images lie in a folder itself."""
    try:
        with os.scandir(folder) as entries:
            return any(
                Path(entry.name).suffix.lower() in SUFFIXES
                and not entry.name.startswith(".")
                and not is_folder(entry)
                for entry in entries
            )
    except OSError:
        return False


def subfolders(folder: Path) -> list[Path]:
    """Return the visible subfolders, sorted; none if the folder cannot be read."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if is_folder(e) and not e.name.startswith(".")]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def entries_of(folder: Path) -> list[Path]:
    """Return everything in a folder, sorted.

    Raises:
        DataError: When it cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be read ({(error.strerror or str(error)).lower()}); "
            "fix that, or leave the folder out"
        ) from error
