"""Scan a class-per-folder dataset: which images there are, of which class.

Knows names and folders only; what is inside the files is `data.check`'s business.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transferkit.data.images import SUFFIXES
from transferkit.errors import DataError, name_some
from transferkit.reporting import LeftOut

SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Folder name -> split, for datasets that come already split."""


@dataclass(frozen=True)
class ImageIndex:
    """The images of a dataset, in plain sorted order of their paths.

    Attributes:
        root: The dataset's folder.
        paths: N paths relative to `root`, with `/` between the parts.
        labels: (N,) int64, positions in `class_names`.
        class_names: In plain sorted order; this order is the model's order of outputs.
        splits: N split names where the folders name them, empty strings otherwise.
        left_out: What was found and not used.
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
        """The N files, ready to open."""
        return [self.root / path for path in self.paths]

    def without(self, left_out: tuple[LeftOut, ...]) -> "ImageIndex":
        """The same index less the images named in `left_out`, which it takes note of."""
        gone = {item.path for item in left_out}
        kept = self._rows([i for i, path in enumerate(self.paths) if path not in gone])
        return replace(kept, left_out=self.left_out + left_out)

    def only(self, split: str) -> "ImageIndex":
        """The images that the folders put in one split."""
        return self._rows([i for i, name in enumerate(self.splits) if name == split])

    def with_validation(self, validation: "ImageIndex") -> "ImageIndex":
        """The images of both, these for training and those for validation.

        Raises:
            DataError: When this index is split already, or the other has classes of its own.
        """
        if any(self.splits):
            raise DataError(f"{self.root}: is split by its folders already; leave out --val")
        strange = sorted(set(validation.class_names) - set(self.class_names))
        if strange:
            raise DataError(
                f"{validation.root}: has classes that {self.root} lacks: {name_some(strange)}; "
                "expected the same folder names in both"
            )
        away = os.path.relpath(validation.root, self.root)
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

    Hidden folders and files, empty classes and files that are no images by their suffix are left
    out and named. Links are followed; a folder reached a second time is not entered again.

    Raises:
        DataError: When there is no such folder, or no image in any class folder.
    """
    if not root.is_dir():
        what = "is a file, expected a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what} with one subfolder of images a class")
    try:
        return _scan(root)
    except PermissionError as error:
        raise DataError(
            f"{error.filename}: no permission to read this folder; ask for it, or leave it out"
        ) from error


def _scan(root: Path) -> ImageIndex:
    left_out: list[LeftOut] = []
    rows: list[tuple[str, str, str]] = []
    for split, folder in _split_folders(root, left_out):
        for class_folder in _class_folders(root, folder, left_out):
            found = sorted(_images_below(root, class_folder, left_out))
            if not found:
                left_out.append(LeftOut(_relative(root, class_folder), "no images in it"))
            rows += [(path, class_folder.name, split) for path in found]
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


def _split_folders(root: Path, left_out: list[LeftOut]) -> list[tuple[str, Path]]:
    # A dataset counts as already split when it has train/ and every other folder is a split too:
    # a class that happens to be called "test" beside other classes stays a class.
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir()]
    names = {entry.name.lower() for entry in folders if not entry.name.startswith(".")}
    if "train" not in names or len(names) < 2 or not names <= SPLIT_FOLDERS.keys():
        return [("", root)]
    splits = [SPLIT_FOLDERS[name] for name in sorted(names)]
    if len(set(splits)) < len(splits):
        raise DataError(f"{root}: has more than one validation folder ({', '.join(sorted(names))})")
    for entry in sorted(root.iterdir()):
        if entry.name.startswith(".") or not entry.is_dir():
            left_out.append(LeftOut(entry.name, _why_not_a_class(entry)))
    return [
        (SPLIT_FOLDERS[entry.name.lower()], entry)
        for entry in folders
        if not entry.name.startswith(".")
    ]


def _class_folders(root: Path, folder: Path, left_out: list[LeftOut]) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            yield entry
        else:
            left_out.append(LeftOut(_relative(root, entry), _why_not_a_class(entry)))


def _why_not_a_class(entry: Path) -> str:
    if entry.name.startswith("."):
        return "hidden"
    return "not in a class folder" if entry.suffix.lower() in SUFFIXES else "not an image"


def _images_below(root: Path, folder: Path, left_out: list[LeftOut]) -> Iterator[str]:
    entered = {os.path.realpath(folder)}

    def note(error: OSError) -> None:
        path = _relative(root, Path(error.filename))
        left_out.append(LeftOut(path, (error.strerror or "").lower(), unreadable=True))

    for parent, folders, files in os.walk(folder, onerror=note, followlinks=True):
        kept = []
        for name in sorted(folders):
            path = Path(parent, name)
            real = os.path.realpath(path)
            if name.startswith("."):
                left_out.append(LeftOut(_relative(root, path), "hidden"))
            elif real in entered:
                left_out.append(LeftOut(_relative(root, path), "a link to a folder already read"))
            else:
                entered.add(real)
                kept.append(name)
        folders[:] = kept
        for name in sorted(files):
            path = Path(parent, name)
            if name.startswith("."):
                left_out.append(LeftOut(_relative(root, path), "hidden"))
            elif path.suffix.lower() not in SUFFIXES:
                left_out.append(LeftOut(_relative(root, path), "not an image"))
            else:
                yield _relative(root, path)


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _nothing_found(root: Path) -> str:
    loose = [path.name for path in sorted(root.iterdir()) if path.suffix.lower() in SUFFIXES]
    if loose:
        return (
            f"{root}: its images ({name_some(loose, 3)}) are not in class folders; "
            f"make one subfolder a class, {root.name}/<class>/<image>"
        )
    return (
        f"{root}: no images in it; expected one subfolder a class, {root.name}/<class>/<image>, "
        f"with files ending in {', '.join(sorted(SUFFIXES))}"
    )
