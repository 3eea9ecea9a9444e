"""Files to batches of pixels, decoded ahead by threads.

Pillow releases the interpreter lock while it decodes and resizes, so threads do the work of
worker processes without their start-up and copying. What comes out depends on the order and the
seed alone, never on how many threads there are.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transferkit.data.images import ImageError, Picture, read_image
from transferkit.data.parallel import map_in_order
from transferkit.data.pixels import PixelStore
from transferkit.data.transforms import Transform

_BATCHES_AHEAD = 2

Seeds = Callable[[int], tuple[int, ...]]


@dataclass(frozen=True)
class Batch:
    """Some pictures, in the order asked for.

    Attributes:
        rows: (B,) int64 positions in the list of files, of the pictures in `pixels`.
        pixels: (B, 3, H, W) uint8, channels last in memory.
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
    allow_truncated: bool = False,
    order: Sequence[int] | NDArray[np.int64] | None = None,
    seeds: Seeds = lambda row: (row,),
    store: PixelStore | None = None,
) -> Iterator[Batch]:
    """Yield every one of `pictures` once, in batches.

    Args:
        pictures: N files or pictures.
        transform: Applied to each picture, with a generator of its own.
        batch_size: Pictures a batch; the last batch has what is left.
        workers: Threads that decode.
        allow_truncated: Whether JPEGs are read whose end is missing.
        order: Positions in `pictures` to yield, in this order; default all, first to last.
        seeds: A picture's position to what its generator is seeded with: same seed, same pixels.
        store: Where prepared pixels are kept from one call to the next with the same pictures and
            transform.
    """
    rows = list(range(len(pictures)) if order is None else map(int, order))

    def prepare(row: int) -> NDArray[np.uint8]:
        picture = pictures[row]
        image = read_image(picture, transform.needed, allow_truncated=allow_truncated)
        return transform.prepare(image)

    def load(row: int) -> tuple[int, NDArray[np.uint8] | str]:
        try:
            pixels = store.get(row, lambda: prepare(row)) if store else prepare(row)
        except ImageError as error:
            return row, str(error)
        return row, transform.vary(pixels, np.random.default_rng(seeds(row)))

    ahead = (1 + _BATCHES_AHEAD) * batch_size
    loaded = map_in_order(load, rows, workers=workers, ahead=ahead)
    while chunk := list(islice(loaded, batch_size)):
        yield _collate(chunk)


def _collate(chunk: Sequence[tuple[int, NDArray[np.uint8] | str]]) -> Batch:
    loaded = [(row, pixels) for row, pixels in chunk if not isinstance(pixels, str)]
    failures = tuple((row, reason) for row, reason in chunk if isinstance(reason, str))
    stacked = torch.empty((0, 3, 0, 0), dtype=torch.uint8)
    if loaded:
        # By numpy: torch would start its own threads for it, beside ours.
        stacked = torch.from_numpy(np.stack([pixels for _, pixels in loaded])).permute(0, 3, 1, 2)
    return Batch(np.array([row for row, _ in loaded], dtype=np.int64), stacked, failures)
