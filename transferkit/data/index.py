"""Scan a dataset with one folder per class: list its images and their classes.

This module looks at names and folders only; `data.check` reads the files.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transferkit.data.class_names import describe_unknown, lookalikes
from transferkit.data.layout import NO_IMAGES, ClassFolder, FoundLayout, Layout, find_layout
from transferkit.data.walk import ALREADY_READ, SUFFIXES, walk_images
from transferkit.errors import DataError, name_some
from transferkit.reporter import LeftOut


@dataclass(frozen=True)
class ImageIndex:
    """The images of a dataset, sorted by path.

    Attributes:
        root: The dataset's folder.
        paths: N paths relative to `root`, with `/` between the parts.
        labels: (N,) int64, positions in `class_names`.
        class_names: Sorted names of the classes, in the order of the model's outputs.
        splits: N split names if folders name the splits, empty strings otherwise.
        left_out: Files and folders that were found but are not used.
        layout: What the folders were understood to be; empty for one folder per class.
    """

    root: Path
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    layout: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The N files as paths to open."""
        return tuple(self.root / path for path in self.paths)

    def without(self, left_out: tuple[LeftOut, ...]) -> "ImageIndex":
        """Return the index without some images, which are added to its `left_out`.

        A class without remaining images is removed and added to `left_out` as well.
        """
        gone = {item.path for item in left_out}
        kept = self._rows([i for i, path in enumerate(self.paths) if path not in gone])
        present = sorted(set(kept.labels.tolist()))
        names = tuple(self.class_names[label] for label in present)
        empty = tuple(
            LeftOut(name, "no readable image of this class", unreadable=True)
            for name in self.class_names
            if name not in names
        )
        return replace(
            kept,
            class_names=names,
            labels=np.searchsorted(present, kept.labels).astype(np.int64),
            left_out=self.left_out + left_out + empty,
        )

    def only(self, split: str) -> "ImageIndex":
        """Return the images in the folder of one split."""
        return self._rows([i for i, name in enumerate(self.splits) if name == split])

    def with_validation(self, validation: "ImageIndex") -> "ImageIndex":
        """Return an index of both, with these images for training and the others for validation.

        Raises:
            DataError: When this index is already split, or the other has classes that this one
                lacks.
        """
        if any(self.splits):
            raise DataError(f"{self.root}: is already split by its folders; leave out --val")
        strange = sorted(set(validation.class_names) - set(self.class_names))
        if strange:
            strange = describe_unknown(strange, self.class_names)
            raise DataError(
                f"{validation.root}: has classes that {self.root} lacks: {name_some(strange)}; "
                "expected the same folder names in both"
            )
        # Relative to real paths: the system resolves a link before it follows `..`.
        away = os.path.relpath(validation.root.resolve(), self.root.resolve())
        position = [self.class_names.index(name) for name in validation.class_names]
        return replace(
            self,
            paths=(*self.paths, *(f"{Path(away).as_posix()}/{p}" for p in validation.paths)),
            labels=np.concatenate([self.labels, np.array(position)[validation.labels]]),
            splits=("train",) * len(self) + ("val",) * len(validation),
            left_out=self.left_out + validation.left_out,
        )

    def _rows(self, rows: list[int]) -> "ImageIndex":
        return replace(
            self,
            paths=tuple(self.paths[i] for i in rows),
            labels=self.labels[rows],
            splits=tuple(self.splits[i] for i in rows),
        )


def scan(root: Path, layout: Layout = Layout.AUTO) -> ImageIndex:
    """Index the images in the class folders of a dataset, which `find_layout` finds.

    Hidden files and folders, empty classes and files without an image suffix are left out and
    recorded. Links are followed, but no folder is entered twice.

    Raises:
        DataError: When there is no such folder, no class folder has an image, or the folders can be
            read in two ways.
    """
    if not root.is_dir():
        what = "is a file, expected a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what} with one subfolder of images per class")
    found = find_layout(root, layout)
    left_out = found.left_out
    # The root and all class folders count as entered from the start: a link to one of them would
    # give its images a second label.
    entered = {os.path.realpath(path) for path in (root, *(one.folder for one in found.classes))}
    rows: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    for one in found.classes:
        real = os.path.realpath(one.folder)
        if real in seen:
            left_out.append(LeftOut(_relative(root, one.folder), ALREADY_READ))
            continue
        seen.add(real)
        rows += _rows_of_class(root, one, entered, left_out)
    if not rows:
        raise DataError(_nothing_found(root))
    rows.sort()
    class_names = tuple(sorted({name for _, name, _ in rows}))
    position = {name: i for i, name in enumerate(class_names)}
    return ImageIndex(
        root=root,
        paths=tuple(path for path, _, _ in rows),
        labels=np.array([position[name] for _, name, _ in rows], dtype=np.int64),
        class_names=class_names,
        splits=tuple(split for _, _, split in rows),
        left_out=tuple(left_out),
        layout="; ".join((*_described_parts(found), *_described_names(found, class_names))),
    )


def _rows_of_class(
    root: Path, one: ClassFolder, entered: set[str], left_out: list[LeftOut]
) -> list[tuple[str, str, str]]:
    rows = []
    for found in walk_images(one.folder, entered):
        if found.reason:
            path = _relative(root, found.path)
            left_out.append(LeftOut(path, found.reason, found.unreadable))
        else:
            rows.append((_relative(root, found.path), one.name, one.split))
    if not rows:
        left_out.append(LeftOut(_relative(root, one.folder), NO_IMAGES))
    return rows


def _described_parts(found: FoundLayout) -> list[str]:
    return [", ".join(found.described)] if found.described else []


def _described_names(found: FoundLayout, class_names: Sequence[str]) -> Iterator[str]:
    """Describe names of classes that are easily taken for one another."""
    written: dict[tuple[str, str], set[str]] = {}
    for one in found.classes:
        written.setdefault((one.split, one.name), set()).add(one.folder.name)
    if twice := sorted({name for (_, name), forms in written.items() if len(forms) > 1}):
        yield f"{name_some(twice)}: several folders in different Unicode forms, read as one class"
    if alike := [f"{one} and {other}" for one, other in lookalikes(class_names)]:
        yield f"classes that differ only in case or spaces: {name_some(alike)}"


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _nothing_found(root: Path) -> str:
    loose = [path.name for path in sorted(root.iterdir()) if path.suffix.lower() in SUFFIXES]
    if loose:
        return (
            f"{root}: its images ({name_some(loose, 3)}) are not in class folders; "
            f"make one subfolder per class, {root.name}/<class>/<image>"
        )
    return (
        f"{root}: no images in it; expected one subfolder per class, {root.name}/<class>/<image>, "
        f"with files ending in {', '.join(sorted(SUFFIXES))}"
    )
