"""Files to batches of pixels, decoded ahead by threads.

Pillow releases the interpreter lock while it decodes and resizes, so threads do the work of
worker processes without their start-up and copying. What comes out depends on the order and the
seed alone, never on how many threads there are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transferkit.data.images import ImageError, Picture, read_image
from transferkit.data.parallel import map_in_order
from transferkit.data.transforms import Transform

_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """Some pictures, in the order asked for.

    Attributes:
        rows: (B,) int64 positions in the list of files, of the pictures in `pixels`.
        pixels: (B, 3, H, W) uint8.
        failures: (row, reason) of the files of this batch that could not be read.
    """

    rows: NDArray[np.int64]
    pixels: Tensor
    failures: tuple[tuple[int, str], ...]


def iterate_batches(
    pictures: Sequence[Picture],
    transform: Transform,
    *,
    batch_size: int,
    workers: int,
    order: Sequence[int] | NDArray[np.int64] | None = None,
    seed: tuple[int, ...] = (0,),
) -> Iterator[Batch]:
    """Yield every one of `pictures` once, in batches.

    Args:
        pictures: N files or pictures.
        transform: Applied to each picture, with a generator of its own.
        batch_size: Pictures a batch; the last batch has what is left.
        workers: Threads that decode.
        order: Positions in `pictures` to yield, in this order; default all, first to last.
        seed: With a picture's position this seeds its generator: same seed, same pixels.
    """
    rows = list(range(len(pictures)) if order is None else map(int, order))

    def load(row: int) -> tuple[int, NDArray[np.uint8] | str]:
        try:
            image = read_image(pictures[row])
        except ImageError as error:
            return row, str(error)
        return row, transform(image, np.random.default_rng((*seed, row)))

    ahead = (1 + _BATCHES_AHEAD) * batch_size
    loaded = map_in_order(load, rows, workers=workers, ahead=ahead)
    while chunk := list(islice(loaded, batch_size)):
        yield _collate(chunk)


def _collate(chunk: Sequence[tuple[int, NDArray[np.uint8] | str]]) -> Batch:
    rows, pixels, failures = [], [], []
    for row, loaded in chunk:
        if isinstance(loaded, str):
            failures.append((row, loaded))
        else:
            rows.append(row)
            pixels.append(torch.from_numpy(np.array(loaded, order="C")))
    stacked = torch.stack(pixels) if pixels else torch.empty((0, 3, 0, 0), dtype=torch.uint8)
    return Batch(np.array(rows, dtype=np.int64), stacked, tuple(failures))
