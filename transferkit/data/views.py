"""Views of a dataset's pictures: the plain one, numbered random ones, or new ones each time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transferkit.data.augment import Augment
from transferkit.data.loader import Batch, Seeds, iterate_batches
from transferkit.data.pixels import PixelStore
from transferkit.data.preprocessing import Preprocessing
from transferkit.data.transforms import Transform, eval_transform, train_transform

PLAIN = 0
"""The number of the view that validation and prediction see."""


@dataclass(frozen=True, eq=False)
class Views:
    """Pictures and how they are varied.

    Attributes:
        files: N files.
        names: N digests of their content: what numbered views are seeded with, so that they belong
            to a picture and not to its place in a dataset.
        preprocessing: What the network expects.
        augment: How strongly views but the plain one are varied.
        seed: Of all chance.
        batch_size: Pictures a batch.
        workers: Threads that decode.
        allow_truncated: Whether JPEGs are read whose end is missing.
        plain_store: Keeps the pixels of plain views.
        varied_store: Keeps what other views are made of.
    """

    files: Sequence[Path]
    names: Sequence[str]
    preprocessing: Preprocessing
    augment: Augment
    seed: int
    batch_size: int
    workers: int
    allow_truncated: bool = False
    plain_store: PixelStore | None = None
    varied_store: PixelStore | None = None

    def numbered(self, view: int, order: NDArray[np.int64]) -> Iterator[Batch]:
        """A view by its number, always the same, of the pictures at some positions."""
        if view == PLAIN:
            transform = eval_transform(self.preprocessing)
            return self._batches(transform, order, lambda row: (row,), self.plain_store)
        return self._varied(order, lambda row: (self.seed, view, int(self.names[row][:15], 16)))

    def fresh(self, epoch: int, order: NDArray[np.int64]) -> Iterator[Batch]:
        """The view that an epoch has for itself."""
        return self._varied(order, lambda row: (self.seed, epoch, row))

    def _varied(self, order: NDArray[np.int64], seeds: Seeds) -> Iterator[Batch]:
        transform = train_transform(self.preprocessing, self.augment)
        return self._batches(transform, order, seeds, self.varied_store)

    def _batches(
        self,
        transform: Transform,
        order: NDArray[np.int64],
        seeds: Seeds,
        store: PixelStore | None,
    ) -> Iterator[Batch]:
        return iterate_batches(
            self.files,
            transform,
            batch_size=self.batch_size,
            workers=self.workers,
            allow_truncated=self.allow_truncated,
            order=order,
            seeds=seeds,
            store=store,
        )
