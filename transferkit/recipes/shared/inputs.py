"""The images that a command's inputs name. Imports no torch."""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from transferkit.data.archives import archives_below, named_archives, read_archive
from transferkit.data.decisions import decided
from transferkit.data.groups import groups_by_pattern, groups_from_table
from transferkit.data.images import ImageSource, StoredImage
from transferkit.data.index import ImageIndex
from transferkit.data.label_table import TableReading
from transferkit.data.scan import scan
from transferkit.data.trees import LOCAL, ROOT, ListedTree, is_plain
from transferkit.data.walk import SUFFIXES, walk_images
from transferkit.devices import default_workers
from transferkit.errors import DataError, OptionError
from transferkit.options.dataset_options import FolderOptions, TogetherOptions
from transferkit.options.shared import ComputeOptions
from transferkit.places import Place, Url, is_pattern, is_url, place
from transferkit.reporter import Reporter

STANDARD_INPUT = "-"


def expand_inputs(
    inputs: Sequence[str | ImageSource], listed: Iterable[str], *, may_be_empty: bool = False
) -> list[ImageSource]:
    """Return the files of all inputs: a folder's images, a pattern's matches, or the path itself.

    A folder without images and a pattern without matches are kept as paths; they become records
    with an error. Images that are no paths are kept as well.

    Args:
        inputs: Files, folders, patterns, `-`, or images.
        listed: The paths that replace `-`.
        may_be_empty: Whether the inputs may name no files.

    Raises:
        DataError: When the inputs name no files, but should.
    """
    paths: list[ImageSource] = []
    count = 0
    for given in inputs:
        more: list[ImageSource]
        if not isinstance(given, str):
            more = [given]
        elif given == STANDARD_INPUT:
            more = [line for line in (entry.rstrip("\r\n") for entry in listed) if line]
        else:
            more = _named_by(given)
        count += len(more)
        paths += more or [given]
    if not count and may_be_empty:
        return []
    if not count:
        where = f"no images in {', '.join(map(str, inputs))}" if inputs else "no images were given"
        raise DataError(f"{where}; expected image files, folders of them, or patterns")
    return paths


def only_files(images: Sequence[ImageSource], flag: str) -> list[str | StoredImage]:
    """Return the images, all of which are files.

    Args:
        images: The images.
        flag: The option that needs files, for the message.

    Raises:
        OptionError: When one is not.
    """
    files = [image for image in images if isinstance(image, str | StoredImage)]
    if len(files) < len(images):
        raise OptionError(f"{flag}: takes paths, got images; write them to files")
    return files


def _named_by(given: str) -> list[ImageSource]:
    """Return the images that text names: a file, a folder, an archive, or a pattern of these."""
    if archives := named_archives(place(given)):
        return _images_of(archives)
    if is_url(given):
        return _stored_images(Url(given))
    if os.path.isdir(given):
        return _images_in(Path(given))
    if not os.path.lexists(given) and glob.has_magic(given):
        # A quoted pattern arrives unexpanded, as does any from a shell without patterns.
        matches = sorted(glob.glob(given, recursive=True))
        return [image for one in matches for image in _named_by(one)]
    return [given]


def _images_in(folder: Path) -> list[ImageSource]:
    if archives := archives_below(LOCAL, folder):
        return _images_of([Path(one) for one in archives])
    # A subfolder that cannot be read stays an input and becomes a record with an error.
    return [
        str(found.path)
        for found in walk_images(folder, set())
        if not found.reason or found.unreadable
    ]


def _stored_images(url: Url) -> list[ImageSource]:
    """Return the images that an address names; one with an image's suffix is a file."""
    if is_pattern(url) and not url.exists():
        return [image for one in url.matches() for image in _images_at(one)]
    return _images_at(url)


def _images_at(url: Url) -> list[ImageSource]:
    if url.suffix.lower() in SUFFIXES:
        return [url]
    files = url.files()
    tree = ListedTree(files)
    if archives := archives_below(tree, ROOT):
        return _images_of([url / one.as_posix() for one in archives])
    found = [one.path.as_posix() for one in walk_images(ROOT, set(), tree) if not one.reason]
    # Names that are no paths of a tree are read all the same.
    found += [name for name in files if not is_plain(name) and PurePath(name).suffix in SUFFIXES]
    return [StoredImage(url / path, files[path].state, size=files[path].size) for path in found]


def _images_of(archives: Sequence[Place]) -> list[ImageSource]:
    return [image for one in archives for image in read_archive(one).images.values()]


def reading_threads(options: ComputeOptions) -> int:
    """Return the number of threads that read and decode the images that options name."""
    named = (getattr(options, name, None) for name in ("data", "val", "root"))
    sources = (*named, *getattr(options, "inputs", ()))
    in_store = any(isinstance(source, str) and is_url(source) for source in sources)
    return options.workers or default_workers(in_store=in_store)


def find_images(
    options: FolderOptions, data: Place, reading: TableReading | None = None
) -> ImageIndex:
    """Return the images of a dataset, as the options say to read it and what is decided about them.

    Args:
        options: How it is read.
        data: The dataset.
        reading: How a table is read; None where groups do not matter.

    Raises:
        DataError: When the dataset or the decisions cannot be used.
        StoreError: When one is in a store that fails.
    """
    index = scan(data, options.layout, reading or options.table_reading)
    return decided(index, options.decisions) if options.decisions else index


def find_groups(options: TogetherOptions, index: ImageIndex) -> dict[str, str]:
    """Return path -> group of each image; empty if neither options nor a table name groups.

    Raises:
        DataError: When an image has no group, or the table of groups cannot be read.
    """
    if options.group_by:
        groups = groups_by_pattern(index, options.group_by)
    elif options.groups:
        groups = groups_from_table(index, options.groups)
    else:
        groups = index.groups
    return dict(zip(index.paths, groups, strict=True)) if groups else {}


def tell_layout(index: ImageIndex, reporter: Reporter) -> None:
    """Report what a dataset's folders were understood to be, unless each is a class."""
    if index.layout:
        reporter.notice(f"{index.root}: {index.layout}")
