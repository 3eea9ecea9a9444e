"""The images of a dataset and their classes, as one record."""

import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from transferkit.data.class_names import describe_unknown
from transferkit.data.images import ImageFile
from transferkit.errors import DataError, name_some
from transferkit.places import Place, Url, is_url
from transferkit.reporter import LeftOut


@dataclass(frozen=True)
class ImageIndex:
    """The images of a dataset, sorted by path.

    Attributes:
        root: The dataset's folder, or that of its archives, or that which paths of its table are
            relative to.
        paths: N paths relative to `root`, with `/` between the parts; images in an archive have
            its path before their own. A table may also have absolute paths, and addresses.
        labels: (N,) int64, positions in `class_names`.
        class_names: Sorted names of the classes, in the order of the model's outputs.
        splits: N split names if folders or a table name the splits, empty strings otherwise.
        left_out: Files and folders that were found but are not used.
        layout: What the folders were understood to be; empty for one folder per class.
        elsewhere: N places to read the images from, if those are not files of this machine.
        groups: N names of groups if a table names them, else empty.
    """

    root: Place
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    layout: str = ""
    elsewhere: tuple[ImageFile, ...] = field(default=(), repr=False)
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def files(self) -> tuple[ImageFile, ...]:
        """The N files to read."""
        if self.elsewhere or isinstance(self.root, Url):
            return self.elsewhere
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
        """Return the images of one part of the split."""
        return self._rows([i for i, name in enumerate(self.splits) if name == split])

    def with_validation(self, validation: "ImageIndex") -> "ImageIndex":
        """Return an index of both, with these images for training and the others for validation.

        Raises:
            DataError: When this index is already split, the other has classes that this one
                lacks, or an image is in both, or only one of them has groups.
        """
        if set(self.splits) - {"", "train"}:
            raise DataError(
                f"{self.root}: is already split by its folders, or by its table; leave out --val, "
                "or the table's split with --split-column none"
            )
        strange = sorted(set(validation.class_names) - set(self.class_names))
        if strange:
            strange = describe_unknown(strange, self.class_names)
            raise DataError(
                f"{validation.root}: has classes that {self.root} lacks: {name_some(strange)}; "
                "expected the same names of classes in both"
            )
        if bool(self.groups) != bool(validation.groups):
            with_groups, without = (self, validation) if self.groups else (validation, self)
            raise DataError(
                f"{with_groups.root}: its table has groups, and {without.root} has none; name "
                "those of both with --groups, or read none with --group-column none"
            )
        away = _way(self.root, validation.root)
        paths = tuple(_seen_from(away, path) for path in validation.paths)
        if shared := sorted(set(self.paths) & set(paths)):
            raise DataError(
                f"{validation.root}: {len(shared)} images are for training and for validation: "
                f"{name_some(shared)}; expected others for validation"
            )
        position = [self.class_names.index(name) for name in validation.class_names]
        is_local = not self.elsewhere and not validation.elsewhere
        return replace(
            self,
            paths=self.paths + paths,
            labels=np.concatenate([self.labels, np.array(position)[validation.labels]]),
            splits=("train",) * len(self) + ("val",) * len(validation),
            left_out=self.left_out + validation.left_out,
            elsewhere=() if is_local else self.files + validation.files,
            groups=self.groups + validation.groups,
        )

    def _rows(self, rows: list[int]) -> "ImageIndex":
        return replace(
            self,
            paths=tuple(self.paths[i] for i in rows),
            labels=self.labels[rows],
            splits=tuple(self.splits[i] for i in rows),
            elsewhere=tuple(self.elsewhere[i] for i in rows) if self.elsewhere else (),
            groups=tuple(self.groups[i] for i in rows) if self.groups else (),
        )


def _way(root: Place, other: Place) -> str:
    """Return the way from one folder to another, as paths of images begin with it."""
    if isinstance(other, Url):
        return other
    if isinstance(root, Url):
        return other.resolve().as_posix()
    # Between real paths: the system resolves a link before it follows `..`.
    return Path(os.path.relpath(other.resolve(), root.resolve())).as_posix()


def _seen_from(away: str, path: str) -> str:
    """Return a path of an image after the way to the folder that it is relative to."""
    if away == "." or is_url(path) or PurePath(path).is_absolute():
        return path
    return f"{away}/{path}"
