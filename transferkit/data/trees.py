"""Names of files and folders: those of this machine, and those of a listing."""

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder.

    Attributes:
        name: The name.
        is_folder: Whether it is a folder, or a link to one.
    """

    name: str
    is_folder: bool


class Tree(Protocol):
    """Files and folders, looked up by name."""

    def entries(self, folder: PurePath) -> Iterator[Entry]:
        """Yield what a folder holds, in any order.

        Raises:
            OSError: When the folder cannot be read.
        """
        ...

    def real_path(self, folder: PurePath) -> str:
        """Return the path of a folder without links."""
        ...


class LocalTree:
    """The files and folders of this machine."""

    def entries(self, folder: PurePath) -> Iterator[Entry]:
        """Yield what a folder holds, in any order.

        Raises:
            OSError: When the folder cannot be read.
        """
        with os.scandir(folder) as found:
            for entry in found:
                yield Entry(entry.name, _is_folder(entry))

    def real_path(self, folder: PurePath) -> str:
        """Return the path of a folder without links."""
        return os.path.realpath(folder)


class ListedTree:
    """Files and folders of a listing, in which there are no links.

    Args:
        paths: All files, by their paths relative to the root, with `/` between the parts. Those
            with an empty part, which object stores allow, are not in the tree.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._inside: dict[str, dict[str, bool]] = {".": {}}
        for path in filter(is_plain, paths):
            self._add(path, is_folder=False)

    def entries(self, folder: PurePath) -> Iterator[Entry]:
        """Yield what a folder holds, in any order.

        Raises:
            FileNotFoundError: When there is no such folder.
        """
        try:
            inside = self._inside[folder.as_posix()]
        except KeyError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
        for name, is_folder in inside.items():
            yield Entry(name, is_folder)

    def real_path(self, folder: PurePath) -> str:
        """Return the path of a folder."""
        return folder.as_posix()

    def _add(self, path: str, *, is_folder: bool) -> None:
        parent, _, name = path.rpartition("/")
        folder = parent or "."
        if folder not in self._inside:
            self._inside[folder] = {}
            self._add(folder, is_folder=True)
        self._inside[folder][name] = is_folder or self._inside[folder].get(name, False)


def is_plain(path: str) -> bool:
    """Return whether every part of a path has a name."""
    return all(part not in ("", ".", "..") for part in path.split("/"))


ROOT = PurePosixPath()
"""The root of a listing."""

LOCAL = LocalTree()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # for example a link to itself; reading it will give the reason
