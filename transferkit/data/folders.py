"""What a folder holds, by names alone: subfolders, images in itself, images below it."""

from pathlib import PurePath

from transferkit.data.trees import Tree
from transferkit.data.walk import SUFFIXES
from transferkit.errors import DataError


def holds_folders(tree: Tree, folder: PurePath) -> bool:
    """Return whether a folder's images lie in subfolders and not in itself."""
    return not has_loose_images(tree, folder) and bool(image_folders(tree, folder))


def image_folders(tree: Tree, folder: PurePath) -> list[PurePath]:
    """Return the subfolders with images; a link to a folder around them is none."""
    around = real_paths_around(tree, folder)
    return [f for f in subfolders(tree, folder) if _holds_images(tree, f, around)]


def real_paths_around(tree: Tree, folder: PurePath) -> frozenset[str]:
    """Return the real paths of a folder and of all folders around it."""
    return frozenset(tree.real_path(path) for path in (folder, *folder.parents))


def _holds_images(tree: Tree, folder: PurePath, entered: frozenset[str]) -> bool:
    """Return whether there is an image below a folder, or a part of it that cannot be read."""
    real = tree.real_path(folder)
    if real in entered:
        return False
    below = []
    try:
        for entry in tree.entries(folder):
            if entry.name.startswith("."):
                continue
            if entry.is_folder:
                below.append(folder / entry.name)
            elif _is_image(entry.name):
                return True
    except OSError:
        return True  # reading it gives the reason
    return any(_holds_images(tree, inside, entered | {real}) for inside in below)


def has_loose_images(tree: Tree, folder: PurePath) -> bool:
    """Return whether images lie in a folder itself."""
    try:
        return any(
            _is_image(entry.name) and not entry.name.startswith(".") and not entry.is_folder
            for entry in tree.entries(folder)
        )
    except OSError:
        return False


def subfolders(tree: Tree, folder: PurePath) -> list[PurePath]:
    """Return the visible subfolders, sorted; none if the folder cannot be read."""
    try:
        names = [e.name for e in tree.entries(folder) if e.is_folder and e.name[:1] != "."]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def entries_of(tree: Tree, folder: PurePath) -> list[PurePath]:
    """Return everything in a folder, sorted.

    Raises:
        DataError: When it cannot be read.
    """
    try:
        return sorted(folder / entry.name for entry in tree.entries(folder))
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be read ({(error.strerror or str(error)).lower()}); "
            "fix that, or leave the folder out"
        ) from error


def _is_image(name: str) -> bool:
    return PurePath(name).suffix.lower() in SUFFIXES
