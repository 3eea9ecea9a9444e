"""Views of a dataset's images: the plain view, numbered random views, and views of one epoch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transferkit.data.augment import Augment
from transferkit.data.images import ImageFile
from transferkit.data.loader import Batch, Seeds, iterate_batches
from transferkit.data.pixels import PixelStore
from transferkit.data.preprocessing import Preprocessing
from transferkit.data.transforms import Transform, eval_transform, train_transform
from transferkit.device_copies import Allocate, pageable

PLAIN = 0
"""The number of the view that validation and prediction use."""


@dataclass(frozen=True, eq=False)
class Views:
    """Images and their augmentation.

    Attributes:
        files: N files.
        names: N digests of the files. Numbered views are seeded with them, so that a view depends
            on the image and not on its position in the dataset.
        preprocessing: Preprocessing that the network expects.
        augment: Augmentation of all views except the plain one.
        seed: Seed of all random views.
        batch_size: Images per batch.
        workers: Number of threads that decode images.
        allow_truncated: Whether to read JPEGs whose end is missing.
        plain_store: Keeps the pixels of the plain view.
        varied_store: Keeps the prepared pixels that random views are made from.
        allocate: Allocates the pixels of a batch.
    """

    files: Sequence[ImageFile]
    names: Sequence[str]
    preprocessing: Preprocessing
    augment: Augment
    seed: int
    batch_size: int
    workers: int
    allow_truncated: bool = False
    plain_store: PixelStore | None = None
    varied_store: PixelStore | None = None
    allocate: Allocate = pageable

    def numbered(self, view: int, order: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield batches of a numbered view, always the same, of the images at some positions."""
        if view == PLAIN:
            transform = eval_transform(self.preprocessing)
            return self._batches(transform, order, lambda row: (row,), self.plain_store)
        return self._varied(order, lambda row: (self.seed, view, int(self.names[row][:15], 16)))

    def fresh(self, epoch: int, order: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield batches of a view drawn for one epoch only, of the images at some positions."""
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
            allocate=self.allocate,
        )
