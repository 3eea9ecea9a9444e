"""Scan a dataset with one folder per class: list its images and their classes.

This module looks at names and folders only; `data.check` reads the files.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transferkit.data.walk import ALREADY_READ, SUFFIXES, walk_images
from transferkit.errors import DataError, name_some
from transferkit.reporter import LeftOut

SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Folder name -> split, for datasets that are already split."""


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
    """

    root: Path
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def files(self) -> list[Path]:
        """The N files as paths to open."""
        return [self.root / path for path in self.paths]

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


def scan(root: Path) -> ImageIndex:
    """Index `root/<class>/**` or `root/{train,val,test}/<class>/**`.

    Hidden files and folders, empty classes and files without an image suffix are left out and
    recorded. Links are followed, but no folder is entered twice.

    Raises:
        DataError: When there is no such folder, no class folder has an image, or other folders of
            images stand beside train/ and val/.
    """
    if not root.is_dir():
        what = "is a file, expected a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what} with one subfolder of images per class")
    left_out: list[LeftOut] = []
    folders = _class_folders(root, left_out)
    # The root and all class folders count as entered from the start: a link to one of them would
    # give its images a second label.
    entered = {os.path.realpath(path) for path in (root, *(folder for _, folder in folders))}
    rows: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    for split, folder in folders:
        real = os.path.realpath(folder)
        if real in seen:
            left_out.append(LeftOut(_relative(root, folder), ALREADY_READ))
            continue
        seen.add(real)
        rows += _rows_of_class(root, split, folder, entered, left_out)
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
    )


def _rows_of_class(
    root: Path, split: str, folder: Path, entered: set[str], left_out: list[LeftOut]
) -> list[tuple[str, str, str]]:
    rows = []
    for found in walk_images(folder, entered):
        if found.reason:
            path = _relative(root, found.path)
            left_out.append(LeftOut(path, found.reason, found.unreadable))
        else:
            rows.append((_relative(root, found.path), folder.name, split))
    if not rows:
        left_out.append(LeftOut(_relative(root, folder), "no images in it"))
    return rows


def _class_folders(root: Path, left_out: list[LeftOut]) -> list[tuple[str, Path]]:
    """Return (split, folder) of every class; the split is empty if folders do not name it."""
    folders = _subfolders(root, root, left_out)
    splits = {folder.name: SPLIT_FOLDERS.get(folder.name.lower(), "") for folder in folders}
    if not _is_split(root, set(splits.values())):
        return [("", folder) for folder in folders]
    others = [folder for folder in folders if not splits[folder.name]]
    if with_images := [f.name for f in others if any(not x.reason for x in walk_images(f, set()))]:
        raise DataError(
            f"{root}: has {name_some(with_images)} with images beside train/; expected only "
            f"{', '.join(SPLIT_FOLDERS)} there, or one folder per class; move the others away"
        )
    left_out += [LeftOut(folder.name, "no images in it") for folder in others]
    named = [folder for folder in folders if splits[folder.name]]
    if len({splits[folder.name] for folder in named}) < len(named):
        names = ", ".join(folder.name for folder in named)
        raise DataError(f"{root}: names a split twice ({names}); expected one folder per split")
    return [
        (splits[parent.name], folder)
        for parent in named
        for folder in _subfolders(root, parent, left_out)
    ]


def _is_split(root: Path, splits: set[str]) -> bool:
    # A class that happens to be called "train" contains images; the folder of a split contains
    # folders of images.
    if "train" not in splits or (len(splits) > 1 and not splits & {"val", "test"}):
        return False
    train = next(folder for folder in root.iterdir() if folder.name.lower() == "train")
    entries = [entry for entry in train.iterdir() if not entry.name.startswith(".")]
    loose = any(entry.suffix.lower() in SUFFIXES for entry in entries if entry.is_file())
    return not loose and any(entry.is_dir() for entry in entries)


def _subfolders(root: Path, parent: Path, left_out: list[LeftOut]) -> list[Path]:
    """Return the visible folders in `parent`; record everything else there as left out."""
    try:
        entries = sorted(parent.iterdir())
    except OSError as error:
        raise DataError(
            f"{parent}: cannot be read ({(error.strerror or str(error)).lower()}); "
            "fix that, or leave the folder out"
        ) from error
    folders = [e for e in entries if e.is_dir() and not e.name.startswith(".")]
    left_out += [LeftOut(_relative(root, e), _why_no_class(e)) for e in entries if e not in folders]
    return folders


def _why_no_class(entry: Path) -> str:
    if entry.name.startswith("."):
        return "hidden"
    return "not in a class folder" if entry.suffix.lower() in SUFFIXES else "not an image"


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
