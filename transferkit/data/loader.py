"""Load images as batches of pixels, decoded ahead by threads.

Pillow releases the interpreter lock while it decodes and resizes, so threads replace worker
processes without their start-up time and copying. The result depends on the order and the seed
only, never on the number of threads.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from transferkit.data.images import ImageError, ImageSource, read_image
from transferkit.data.pixels import PixelStore
from transferkit.data.threads import map_in_order
from transferkit.data.transforms import Transform
from transferkit.device_copies import Allocate, pageable

_BATCHES_AHEAD = 2

Seeds = Callable[[int], tuple[int, ...]]


@dataclass(frozen=True)
class Batch:
    """A batch of images, in the requested order.

    Attributes:
        rows: (B,) int64 positions in the list of images, one per image in `pixels`.
        pixels: (B, H, W, 3) uint8.
        failures: (position, reason) of the images of this batch that could not be read.
    """

    rows: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    failures: tuple[tuple[int, str], ...]


def iterate_batches(
    images: Sequence[ImageSource],
    transform: Transform,
    *,
    batch_size: int,
    workers: int,
    allow_truncated: bool = False,
    order: Sequence[int] | NDArray[np.int64] | None = None,
    seeds: Seeds = lambda row: (row,),
    store: PixelStore | None = None,
    allocate: Allocate = pageable,
) -> Iterator[Batch]:
    """Yield each of `images` once, in batches.

    Args:
        images: N files or images.
        transform: Applied to each image, with a random generator of its own.
        batch_size: Images per batch; the last batch may have fewer.
        workers: Number of threads that decode images.
        allow_truncated: Whether to read JPEGs whose end is missing.
        order: Positions in `images` to yield, in this order; None for all, first to last.
        seeds: `seeds(position)` returns the seed of an image's generator: the same seed gives the
            same pixels.
        store: Keeps prepared pixels between calls with the same images and transform.
        allocate: Allocates the pixels of a batch.
    """
    rows = list(range(len(images)) if order is None else map(int, order))

    def prepare(row: int) -> NDArray[np.uint8]:
        image = read_image(images[row], transform.needed, allow_truncated=allow_truncated)
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
        yield _collate(chunk, allocate)


def _collate(chunk: Sequence[tuple[int, NDArray[np.uint8] | str]], allocate: Allocate) -> Batch:
    loaded = [(row, pixels) for row, pixels in chunk if not isinstance(pixels, str)]
    failures = tuple((row, reason) for row, reason in chunk if isinstance(reason, str))
    pixels = np.empty((0, 0, 0, 3), dtype=np.uint8)
    if loaded:
        arrays = [pixels for _, pixels in loaded]
        pixels = np.stack(arrays, out=allocate((len(arrays), *arrays[0].shape)))
    return Batch(np.array([row for row, _ in loaded], dtype=np.int64), pixels, failures)
