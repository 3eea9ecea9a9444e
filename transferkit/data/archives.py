"""Images in tar archives, read in place: in folders of classes, or with a label per sample.

In WebDataset's layout a sample is the files that share a name up to its first dot: `0001.jpg` and
`0001.cls`, whose text is the label. An archive is indexed by one pass over its headers, and its
images are then read by their positions in it.
"""

import glob
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from transferkit.data.images import StoredImage
from transferkit.data.trees import Tree
from transferkit.data.walk import SUFFIXES
from transferkit.errors import DataError
from transferkit.places import Place, Url, place
from transferkit.reporter import LeftOut
from transferkit.row_cache import cached_json

ARCHIVE_SUFFIX = ".tar"
_LABEL = ".cls"
_LONGEST_LABEL = 1000
_VERSION = 1
"""Of what is cached of archives in stores."""

_BRACES = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Archive:
    """The contents of an archive.

    Attributes:
        place: The archive.
        images: Name -> image, in the order of the archive.
        labels: Name of a sample -> its label; empty if the archive holds none.
        left_out: Files that are not used.
    """

    place: Place
    images: Mapping[str, StoredImage] = field(repr=False)
    labels: Mapping[str, str] = field(repr=False)
    left_out: tuple[LeftOut, ...] = field(repr=False)

    def label_of(self, name: str) -> str | None:
        """Return the label of the sample that an image belongs to."""
        return self.labels.get(_sample(name))


def is_archive(name: str) -> bool:
    """Return whether a name is that of a tar archive."""
    return name.lower().endswith(ARCHIVE_SUFFIX)


def read_archive(place: Place) -> Archive:
    """Index an archive by one pass over it; that of one in a store, which transfers it, is cached.

    Raises:
        DataError: When it cannot be read, is not a tar archive, or a compressed one, or holds a
            label that is no text.
        StoreError: When it is in a store that fails.
    """
    try:
        state = _state(place)
        if isinstance(place, Url) and state:
            about = {"what": f"the index of {place}", "state": state, "version": _VERSION}
            entries = cached_json(about, lambda: [list(entry) for entry in _read(place)])
        else:
            entries = _read(place)
    except (tarfile.TarError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{place}: cannot be read as a tar archive ({reason}); expected a complete one that is "
            "not compressed"
        ) from error
    images: dict[str, StoredImage] = {}
    labels: dict[str, str] = {}
    left_out = []
    for name, start, size, label, reason in entries:
        if label is not None:
            labels[_sample(name)] = label
        elif reason:
            left_out.append(LeftOut(name, reason))
        else:
            images[name] = StoredImage(place, state, name, start, size)
    return Archive(place, images, labels, tuple(left_out))


class _Entry(NamedTuple):
    """A file of an archive.

    Attributes:
        name: Its path in the archive, without empty parts.
        start: Where it begins, in bytes.
        size: Its bytes.
        label: What it says as the label of a sample; None for every other file.
        reason: Why it is not used; empty for an image and a label.
    """

    name: str
    start: int
    size: int
    label: str | None = None
    reason: str = ""


def _read(place: Place) -> list[_Entry]:
    """Go through an archive.

    Raises:
        DataError: When a label is no text.
        tarfile.TarError: When it is damaged, compressed or no archive.
        OSError: When it cannot be read.
    """
    found: dict[str, _Entry] = {}
    with place.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
        while (entry := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]
            name = _normal(entry.name)
            if not entry.isdir():
                found[name] = _entry(archive, entry, name, found, place)
    return list(found.values())


def _entry(
    archive: tarfile.TarFile,
    entry: tarfile.TarInfo,
    name: str,
    before: Mapping[str, _Entry],
    place: Place,
) -> _Entry:
    if any(part.startswith(".") for part in name.split("/")):
        return _Entry(name, 0, 0, reason="hidden")
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in SUFFIXES and suffix != _LABEL:
        return _Entry(name, 0, 0, reason="not an image")
    if entry.islnk() and (original := before.get(_normal(entry.linkname))):
        return original._replace(name=name)  # archives keep one of the files that are linked
    if not entry.isreg() or entry.issparse():
        return _Entry(name, 0, 0, reason="a link, or a file with gaps")
    label = None
    if suffix == _LABEL and (content := archive.extractfile(entry)):
        label = _label(content.read(_LONGEST_LABEL + 1), f"{place}/{name}")
    return _Entry(name, entry.offset_data, entry.size, label)


def _label(content: bytes, shown: str) -> str:
    """Return the label in a file's content.

    Raises:
        DataError: When it is no text, or too long.
    """
    try:
        if len(content) > _LONGEST_LABEL:
            raise ValueError(f"it is longer than {_LONGEST_LABEL} bytes")
        return content.decode("utf-8-sig").strip()
    except ValueError as error:
        raise DataError(f"{shown}: is no label ({error}); expected the name of a class") from error


def _normal(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def named_archives(data: Place) -> list[Place]:
    """Return the archives that DATA names: one, or those of a pattern; none for anything else.

    A pattern may hold `*` and the like, and braces: `train-{0000..0017}.tar`.

    Raises:
        DataError: When a pattern fits no archive.
    """
    text = str(data)
    if not is_archive(text) or _is_folder(data):
        return []
    if not _is_pattern(data):
        return [data]
    found = [match for one in _without_braces(text) for match in _matches(data, one)]
    if not found:
        raise DataError(f"{data}: there is no such archive; expected one, or a pattern of some")
    return found


def folder_of_archives(data: Place) -> Place:
    """Return the folder that paths of images in archives are relative to."""
    if not is_archive(data.name):
        return data
    folder = data
    while _is_pattern(folder) or (is_archive(folder.name) and not _is_folder(folder)):
        folder = folder.parent
    return folder


def archives_below(tree: Tree, folder: PurePath) -> list[PurePath]:
    """Return the archives below a folder that holds no image, sorted; none if it holds one."""
    found: list[PurePath] = []
    for path in _files_below(tree, folder, set()):
        if path.suffix.lower() in SUFFIXES:
            return []
        if is_archive(path.name):
            found.append(path)
    return sorted(found)


def _files_below(tree: Tree, folder: PurePath, entered: set[str]) -> Iterator[PurePath]:
    """Yield the visible files below a folder, entering no folder twice."""
    entered.add(tree.real_path(folder))
    try:
        entries = [entry for entry in tree.entries(folder) if not entry.name.startswith(".")]
    except OSError:
        return  # the search for images gives the reason
    yield from (folder / entry.name for entry in entries if not entry.is_folder)
    for inside in (folder / entry.name for entry in entries if entry.is_folder):
        if tree.real_path(inside) not in entered:
            yield from _files_below(tree, inside, entered)


def _sample(name: str) -> str:
    """Return the name of the sample that a file belongs to: its path up to the first dot."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _state(place: Place) -> str:
    if isinstance(place, Url):
        return place.state()
    found = place.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def _is_folder(place: Place) -> bool:
    return isinstance(place, Path) and place.is_dir()


def _is_pattern(place: Place) -> bool:
    is_special = glob.has_magic(str(place)) or _BRACES.search(str(place)) is not None
    return is_special and not place.exists()


def _matches(data: Place, pattern: str) -> Iterable[Place]:
    if not glob.has_magic(pattern):
        return [place(pattern)]  # one that is missing is told of when it is read
    if isinstance(data, Url):
        return Url(pattern).matches()
    return filter(Path.is_file, map(Path, sorted(glob.glob(pattern, recursive=True))))


def _without_braces(pattern: str) -> list[str]:
    """Return the patterns that one with braces stands for.

    >>> _without_braces("a-{08..10}-{x,y}.tar")[:3]
    ['a-08-x.tar', 'a-08-y.tar', 'a-09-x.tar']
    """
    fixed = _BRACES.split(pattern)[::2]
    choices = [_choices(inside) for inside in _BRACES.findall(pattern)]
    return [
        "".join(text for pair in zip(fixed, (*chosen, ""), strict=True) for text in pair)
        for chosen in product(*choices)
    ]


def _choices(inside: str) -> list[str]:
    first, dots, last = inside.partition("..")
    if dots and first.isdigit() and last.isdigit():
        width = len(first) if first.startswith("0") else 0
        return [f"{number:0{width}}" for number in range(int(first), int(last) + 1)]
    return inside.split(",")
