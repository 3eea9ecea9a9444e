"""The dataset of a run: checked images, each with its split."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from transferkit.data.groups import number_together
from transferkit.data.index import ImageIndex
from transferkit.data.split import Split


@dataclass(frozen=True)
class Dataset:
    """Images to train, validate and test on.

    Attributes:
        index: The readable images.
        sha256: N digests of the files.
        copies: (N,) int64 numbers, equal for copies of one image.
        splits: N splits.
        groups: N names of groups that belong together; empty if none were given.
    """

    index: ImageIndex
    sha256: tuple[str, ...]
    copies: NDArray[np.int64]
    splits: tuple[Split, ...]
    groups: tuple[str, ...] = ()

    @cached_property
    def together(self) -> NDArray[np.int64]:
        """(N,) numbers, equal for images that no split may separate."""
        return number_together(self.copies, self.groups) if self.groups else self.copies

    @cached_property
    def _rows(self) -> dict[Split, NDArray[np.int64]]:
        names = np.array(self.splits)
        return {split: np.flatnonzero(names == split) for split in get_args(Split)}

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Return the positions of a split's images in the index."""
        return self._rows[split]

    def paths(self, split: Split) -> tuple[str, ...]:
        """Return the paths of a split's images, relative to the dataset's folder."""
        return tuple(self.index.paths[i] for i in self.rows(split))

    def counts(self) -> dict[str, tuple[int, int, int]]:
        """Return class name -> number of images in (train, val, test)."""
        of_split = [
            np.bincount(self.index.labels[self.rows(split)], minlength=len(self.index.class_names))
            for split in ("train", "val", "test")
        ]
        return {
            name: (int(train), int(val), int(test))
            for name, train, val, test in zip(self.index.class_names, *of_split, strict=True)
        }

    def copied(self) -> list[tuple[str, ...]]:
        """Return the paths of images that have copies, one tuple per image."""
        return [tuple(self.index.paths[row] for row in rows) for rows in self.copied_rows()]

    def labelled_twice(self) -> list[tuple[str, ...]]:
        """Return the copies that carry more than one label, of which at most one is right."""
        return [
            tuple(self.index.paths[row] for row in rows)
            for rows in self.copied_rows()
            if len(set(self.index.labels[rows].tolist())) > 1
        ]

    def leaked(self) -> list[str]:
        """Return the paths of validation and test images that are copies of a training image."""
        trained = set(self.copies[self.rows("train")].tolist())
        rows = zip(self.index.paths, self.copies.tolist(), self.splits, strict=True)
        return [path for path, copy, split in rows if split != "train" and copy in trained]

    def divided_groups(self) -> list[str]:
        """Return the groups with images in more than one split."""
        splits: dict[str, set[str]] = {}
        for group, split in zip(self.groups, self.splits, strict=False):
            splits.setdefault(group, set()).add(split)
        return sorted(group for group, found in splits.items() if len(found) > 1)

    def lone_classes(self) -> list[str]:
        """Return the classes with training images and none to validate with."""
        return [name for name, (train, val, _) in self.counts().items() if train and not val]

    def recorded_groups(self) -> list[str]:
        """Return N names of groups; without any, names equal for copies of one image."""
        if self.groups:
            return list(self.groups)
        names: dict[int, str] = {}
        for copy, sha in zip(self.copies.tolist(), self.sha256, strict=True):
            names[copy] = min(names.get(copy, sha), sha)
        return [names[copy][:16] for copy in self.copies.tolist()]

    def digest(self) -> str:
        """Return the SHA-256 of all paths, labels, contents and splits."""
        rows = zip(self.index.paths, self.index.labels, self.sha256, self.splits, strict=True)
        text = "\n".join(f"{p}\t{self.index.class_names[i]}\t{s}\t{to}" for p, i, s, to in rows)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def copied_rows(self) -> list[NDArray[np.int64]]:
        """Return the positions of images that have copies, one array per image."""
        order = np.argsort(self.copies, kind="stable")
        edges = np.flatnonzero(np.diff(self.copies[order])) + 1
        return [rows for rows in np.split(order, edges) if len(rows) > 1]
