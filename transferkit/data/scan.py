"""Scan a dataset: list its images and their classes, in folders, stores, archives or a table.

This module looks at names and folders only; `data.check` reads the files.
"""

import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath, PurePosixPath

import numpy as np

from transferkit.data.archives import (
    ARCHIVE_SUFFIX,
    Archive,
    archives_below,
    folder_of_archives,
    named_archives,
    read_archive,
)
from transferkit.data.class_names import lookalikes, normalized
from transferkit.data.images import ImageFile, StoredImage
from transferkit.data.index import ImageIndex
from transferkit.data.label_table import LabelTable, TableReading, read_label_table
from transferkit.data.layout import (
    NO_IMAGES,
    ClassFolder,
    FoundLayout,
    Layout,
    find_layout,
    parts_among,
)
from transferkit.data.table_file import TABLE_SUFFIXES, is_table
from transferkit.data.trees import LOCAL, ROOT, ListedTree, Tree, is_plain
from transferkit.data.walk import ALREADY_READ, SUFFIXES, walk_images
from transferkit.errors import DataError, name_some
from transferkit.places import Place, Url, is_url, place, place_from
from transferkit.reporter import LeftOut

_IN_ARCHIVE = re.compile(re.escape(f"{ARCHIVE_SUFFIX}/"), re.IGNORECASE)


@dataclass
class _Scanned:
    """What was found so far.

    Attributes:
        rows: Path, class, split and place of each image; the place is None for a file of `root`.
        left_out: Files and folders that are not used.
        described: What the folders were understood to be, in phrases.
    """

    rows: list[tuple[str, str, str, ImageFile | None]] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    described: list[str] = field(default_factory=list)

    def add(
        self,
        other: "_Scanned",
        images: Mapping[str, StoredImage],
        inside: str = "",
        split: str = "",
    ) -> None:
        """Add what was found in an archive or a store.

        Args:
            other: What was found, with paths in the archive or store.
            images: Path -> place of each image.
            inside: Path of the archive, with `/` at its end; empty for a store.
            split: Part of the split that the archive is; empty if its name does not say.
        """
        self.rows += [
            (inside + path, name, split or own, images[path]) for path, name, own, _ in other.rows
        ]
        self.left_out += [replace(one, path=inside + one.path) for one in other.left_out]
        self.described += [phrase for phrase in other.described if phrase not in self.described]


def scan(
    data: Place, layout: Layout = Layout.AUTO, reading: TableReading | None = None
) -> ImageIndex:
    """Index a dataset: class folders, which `find_layout` finds, archives, or a table of labels.

    Hidden files and folders, empty classes and files without an image suffix are left out and
    recorded. Links are followed, but no folder is entered twice. A table names its images, so all
    of them are in the index, whatever their names.

    Args:
        data: A folder, an archive or a pattern of some, or a table.
        layout: What the folders are.
        reading: How a table is read; None for the usual names of columns.

    Raises:
        DataError: When there is no such folder, archive or table, no class folder has an image, the
            folders can be read in two ways, or a table cannot be used.
        StoreError: When the dataset is in a store that fails.
    """
    if is_table(data):
        return _scan_table(read_label_table(data, reading or TableReading()), data)
    if archives := named_archives(data):
        return _scan_archives(folder_of_archives(data), archives, layout)
    if isinstance(data, Url):
        return _scan_store(data, layout)
    if not data.is_dir():
        what = "is a file, expected a folder" if data.exists() else "no such folder"
        raise DataError(
            f"{data}: {what} with one subfolder of images per class, or of .tar archives, or a "
            f"table ({', '.join(TABLE_SUFFIXES)}) of paths and labels"
        )
    if below := archives_below(LOCAL, data):
        return _scan_archives(data, [Path(path) for path in below], layout)
    found = _scan_folders(LOCAL, data, layout, str(data))
    if not found.rows:
        raise DataError(_nothing_found(LOCAL, data, str(data)))
    return _index(data, found)


def _scan_store(url: Url, layout: Layout) -> ImageIndex:
    files = url.files()
    if not files:
        raise DataError(
            f"{url}: no such folder with one subfolder of images per class, or of .tar archives"
        )
    tree, odd = ListedTree(files), [name for name in files if not is_plain(name)]
    if below := archives_below(tree, ROOT):
        return _scan_archives(url, [url / path.as_posix() for path in below], layout)
    scanned = _scan_folders(tree, ROOT, layout, url)
    if not scanned.rows:
        raise DataError(_nothing_found(tree, ROOT, url))
    images = {
        path: StoredImage(url / path, files[path].state, size=files[path].size)
        for path, *_ in scanned.rows
    }
    found = _Scanned(left_out=[LeftOut(name, "a part of its name is empty") for name in odd])
    found.add(scanned, images)
    return _index(url, found)


def _scan_archives(root: Place, places: Sequence[Place], layout: Layout) -> ImageIndex:
    archives = [read_archive(place) for place in places]
    by_name = {} if layout is Layout.CLASSES else _splits_of_archives(root, places)
    labelled = any(archive.labels for archive in archives)
    found = _Scanned()
    for archive in archives:
        inside = f"{_below(root, archive.place)}/"
        if labelled:
            scanned = _scan_samples(archive)
        else:
            scanned = _scan_folders(ListedTree(archive.images), ROOT, layout, str(archive.place))
        found.add(scanned, archive.images, inside, by_name.get(archive.place, ""))
        found.left_out += [replace(one, path=inside + one.path) for one in archive.left_out]
    many = "archive" if len(archives) == 1 else "archives"
    found.described.insert(0, f"{len(found.rows)} images in {len(archives)} {many}")
    if not found.rows:
        raise DataError(
            f"{name_some([str(one) for one in places])}: no image with a label; expected samples "
            "such as 0001.jpg and 0001.cls, whose text is the label, or one folder per class"
        )
    return _index(root, found)


def _scan_table(table: LabelTable, file: Place) -> ImageIndex:
    """Index the images of a table.

    Raises:
        DataError: When none of them is there.
    """
    paths = [row.path for row in table.rows]
    files = _with_states(table.root, paths, locate(table.root, paths))
    if not any(isinstance(one, StoredImage) or os.path.exists(one) for one in files):
        raise DataError(
            f"{file}: none of its {len(files)} images is there: {name_some(list(map(str, files)))}"
            f"; its paths are relative to {table.root}; name another folder with --root"
        )
    local = all(isinstance(one, Path) for one in files)
    found = _Scanned(left_out=list(table.left_out), described=[table.described])
    found.rows = [
        (row.path, row.label, row.split, None if local else one)
        for row, one in zip(table.rows, files, strict=True)
    ]
    names = sorted({row.label for row in table.rows})
    found.described += _described_lookalikes(names)
    groups = tuple(row.group for row in table.rows)
    return replace(_index(table.root, found), groups=groups if any(groups) else ())


def _with_states(
    root: Place, paths: Sequence[str], files: Sequence[ImageFile]
) -> Sequence[ImageFile]:
    """Return the files of a table with the states and sizes that one listing of its store tells."""
    if not isinstance(root, Url):
        return files
    inside = [
        path
        for path, one in zip(paths, files, strict=True)
        if isinstance(one, StoredImage) and not is_url(path) and ".." not in path.split("/")
    ]
    common = posixpath.commonpath([posixpath.dirname(path) for path in inside]) if inside else ""
    try:
        listed = (root / common if common else root).files()
    except OSError:
        return files  # whoever may read files may not always list them
    start = f"{common}/" if common else ""
    found = {start + name: file for name, file in listed.items()}
    return [
        replace(one, state=found[path].state, size=found[path].size)
        if isinstance(one, StoredImage) and not one.name and path in found
        else one
        for path, one in zip(paths, files, strict=True)
    ]


def _scan_samples(archive: Archive) -> _Scanned:
    """Return the images of an archive whose samples have labels."""
    found = _Scanned()
    for name in archive.images:
        if label := archive.label_of(name):
            found.rows.append((name, normalized(label), "", None))
        else:
            found.left_out.append(LeftOut(name, "no label, which a .cls file beside it would hold"))
    return found


def _splits_of_archives(root: Place, archives: Sequence[Place]) -> dict[Place, str]:
    """Return the part of a split that each archive is, by its name or its folder's."""
    below = {archive: PurePosixPath(_below(root, archive)) for archive in archives}
    folders = parts_among(sorted({path.parent for path in below.values()}))
    names = parts_among([path.with_suffix("") for path in below.values()])
    return {
        archive: folders.get(path.parent) or names.get(path.with_suffix(""), "")
        for archive, path in below.items()
    }


def _scan_folders(tree: Tree, root: PurePath, layout: Layout, shown: str) -> _Scanned:
    """Find the images in the class folders below a folder."""
    found = find_layout(root, tree, layout, shown)
    scanned = _Scanned(left_out=found.left_out)
    # The root and all class folders count as entered from the start: a link to one of them would
    # give its images a second label.
    entered = {tree.real_path(path) for path in (root, *(one.folder for one in found.classes))}
    seen: set[str] = set()
    for one in found.classes:
        real = tree.real_path(one.folder)
        if real in seen:
            scanned.left_out.append(LeftOut(_relative(root, one.folder), ALREADY_READ))
            continue
        seen.add(real)
        _scan_class(found, one, entered, scanned)
    used = {name for _, name, *_ in scanned.rows}
    scanned.described = [*_described_parts(found), *_described_names(found, sorted(used))]
    return scanned


def _scan_class(found: FoundLayout, one: ClassFolder, entered: set[str], scanned: _Scanned) -> None:
    """Add the images of one class folder."""
    before = len(scanned.rows)
    for item in walk_images(one.folder, entered, found.tree):
        path = _relative(found.root, item.path)
        if item.reason:
            scanned.left_out.append(LeftOut(path, item.reason, item.unreadable))
        else:
            scanned.rows.append((path, one.name, one.split, None))
    if len(scanned.rows) == before:
        scanned.left_out.append(LeftOut(_relative(found.root, one.folder), NO_IMAGES))


def _index(root: Place, found: _Scanned) -> ImageIndex:
    rows = sorted(found.rows, key=lambda row: row[0])
    class_names = tuple(sorted({name for _, name, *_ in rows}))
    position = {name: i for i, name in enumerate(class_names)}
    return ImageIndex(
        root=root,
        paths=tuple(path for path, *_ in rows),
        labels=np.array([position[name] for _, name, *_ in rows], dtype=np.int64),
        class_names=class_names,
        splits=tuple(split for _, _, split, _ in rows),
        left_out=tuple(found.left_out),
        layout="; ".join(found.described),
        elsewhere=tuple(image for *_, image in rows if image is not None),
    )


def _described_parts(found: FoundLayout) -> list[str]:
    return [", ".join(found.described)] if found.described else []


def _described_names(found: FoundLayout, class_names: Sequence[str]) -> Iterator[str]:
    """Describe names of classes that are easily taken for one another."""
    written: dict[tuple[str, str], set[str]] = {}
    for one in found.classes:
        written.setdefault((one.split, one.name), set()).add(one.folder.name)
    if twice := sorted({name for (_, name), forms in written.items() if len(forms) > 1}):
        yield f"{name_some(twice)}: several folders in different Unicode forms, read as one class"
    yield from _described_lookalikes(class_names)


def _described_lookalikes(class_names: Sequence[str]) -> Iterator[str]:
    if alike := [f"{one} and {other}" for one, other in lookalikes(class_names)]:
        yield f"classes that differ only in case or spaces: {name_some(alike)}"


def _relative(root: PurePath, path: PurePath) -> str:
    return path.relative_to(root).as_posix()


def _below(root: Place, place: Place) -> str:
    """Return the path of a place below a folder."""
    if isinstance(place, Url):
        return place.removeprefix(f"{root}/")
    return place.relative_to(str(root)).as_posix()


def _nothing_found(tree: Tree, root: PurePath, shown: str) -> str:
    loose = sorted(
        e.name for e in tree.entries(root) if PurePath(e.name).suffix.lower() in SUFFIXES
    )
    if loose:
        return (
            f"{shown}: its images ({name_some(loose, 3)}) are not in class folders; "
            f"make one subfolder per class, {PurePath(shown).name}/<class>/<image>"
        )
    return (
        f"{shown}: no images in it; expected one subfolder per class, "
        f"{PurePath(shown).name}/<class>/<image>, with files ending in "
        f"{', '.join(sorted(SUFFIXES))}"
    )


def locate(data: Place, paths: Sequence[str]) -> list[ImageFile]:
    """Return where images of a dataset are, by the paths that `scan` gave them.

    An image that is not there any more has a place from which it cannot be read.

    Args:
        data: The dataset; for a table, this may be the folder that its paths are relative to.
        paths: N paths.

    Raises:
        DataError: When an archive can no longer be read.
        StoreError: When an archive is in a store that fails.
    """
    root = data.parent if is_table(data) else folder_of_archives(data)
    archives: dict[str, Mapping[str, StoredImage]] = {}

    def find(path: str) -> ImageFile:
        whole = place_from(root, path)
        for mark in _IN_ARCHIVE.finditer(str(whole)):
            name, inside = str(whole)[: mark.end() - 1], str(whole)[mark.end() :]
            if name not in archives and place(name).is_file():
                archives[name] = read_archive(place(name)).images
            if name in archives:
                return archives[name].get(inside, StoredImage(whole))
        return StoredImage(whole) if isinstance(whole, Url) else whole

    return [find(path) for path in paths]


def name_of(data: Place) -> str:
    """Return a name for a dataset: that of its folder or table, or of its archives' folder."""
    if is_table(data):
        return data.name.removesuffix(data.suffix)
    root = folder_of_archives(data)
    return root.name if isinstance(root, Url) else root.resolve().name
