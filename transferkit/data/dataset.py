"""A dataset as a run uses it: checked images, each with its split."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transferkit.data.index import ImageIndex
from transferkit.data.split import Split


@dataclass(frozen=True)
class Dataset:
    """What is trained and validated on.

    Attributes:
        index: The readable images.
        sha256: N digests of the files.
        splits: N splits.
    """

    index: ImageIndex
    sha256: tuple[str, ...]
    splits: tuple[Split, ...]

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Positions in the index of a split's images."""
        return np.array([i for i, name in enumerate(self.splits) if name == split], dtype=np.int64)

    def paths(self, split: Split) -> tuple[str, ...]:
        """Paths of a split's images, relative to the dataset."""
        return tuple(self.index.paths[i] for i in self.rows(split))

    def counts(self) -> dict[str, tuple[int, int, int]]:
        """Class name -> how many images in (train, val, test)."""
        of_split = [
            np.bincount(self.index.labels[self.rows(split)], minlength=len(self.index.class_names))
            for split in ("train", "val", "test")
        ]
        return {
            name: (int(train), int(val), int(test))
            for name, train, val, test in zip(self.index.class_names, *of_split, strict=True)
        }

    def leaked(self) -> list[str]:
        """Paths of validation and test images that are byte-identical to a training image."""
        trained = {
            sha for sha, split in zip(self.sha256, self.splits, strict=True) if split == "train"
        }
        rows = zip(self.index.paths, self.sha256, self.splits, strict=True)
        return [path for path, sha, split in rows if split != "train" and sha in trained]

    def digest(self) -> str:
        """SHA-256 of paths, labels, contents and splits: the same data, the same digest."""
        rows = zip(self.index.paths, self.index.labels, self.sha256, self.splits, strict=True)
        text = "\n".join(f"{p}\t{self.index.class_names[i]}\t{s}\t{to}" for p, i, s, to in rows)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
