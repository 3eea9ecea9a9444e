"""Batched inference: values of images, in order. Imports no torch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.data.image_inputs import image_name
from transferkit.data.images import ImageSource
from transferkit.data.loader import Batch, iterate_batches
from transferkit.data.preprocessing import Preprocessing
from transferkit.data.transforms import eval_transform
from transferkit.device_copies import Allocate, after_others_have_begun, pageable
from transferkit.errors import DataError

Begin = Callable[[NDArray[np.uint8]], Callable[[], NDArray[np.floating[Any]]]]
"""Begins to compute the values (B, ...) of pixels (B, H, W, 3); what it returns waits for them."""

NOT_FINITE = "the network's output is not finite (NaN or infinity); try --precision fp32"


@dataclass(frozen=True)
class Outputs:
    """Results for one batch of images.

    Attributes:
        rows: (B,) int64 positions in the list of images.
        values: (B, D), one row for each of them; features may have more axes.
        failures: (position, reason) of the images of this batch that could not be read, or whose
            values are not finite.
        scores: (B,) how unusual each of them is; None where that is not known.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.floating[Any]]
    failures: tuple[tuple[int, str], ...]
    scores: NDArray[np.floating[Any]] | None = None

    def by_image(self) -> Iterator[tuple[int, NDArray[np.floating[Any]], float | None]]:
        """Yield position, values and score of each image that could be computed."""
        scores = [None] * len(self.rows) if self.scores is None else self.scores.tolist()
        yield from zip(self.rows.tolist(), self.values, scores, strict=True)


@dataclass(frozen=True)
class Collected:
    """Results for all images.

    Attributes:
        values: (N, D) float32; zeros for an image that could not be read.
        readable: (N,) whether each image could be read.
        reasons: Position -> reason of each image that could not be read.
    """

    values: NDArray[np.float32]
    readable: NDArray[np.bool_]
    reasons: dict[int, str]


def collect(
    parts: Iterable[Outputs], count: int, width: int, report: Callable[[int], None]
) -> Collected:
    """Gather batches into one table, one row per image.

    Args:
        parts: Batches of N images.
        count: N.
        width: D.
        report: Receives the number of images of each batch.
    """
    values = np.zeros((count, width), dtype=np.float32)
    reasons: dict[int, str] = {}
    for part in parts:
        if len(part.rows):
            values[part.rows] = part.values
        reasons.update(part.failures)
        report(len(part.rows) + len(part.failures))
    readable = np.ones(count, dtype=bool)
    readable[list(reasons)] = False
    return Collected(values, readable, reasons)


def require_readable(images: Sequence[ImageSource], table: Collected) -> None:
    """Check that all of `images` could be read.

    Raises:
        DataError: When one could not; names the first one by its path or its position.
    """
    for row, reason in table.reasons.items():
        raise DataError(f"{image_name(images[row], row)}: {reason}")


@dataclass(frozen=True)
class Reading:
    """How images are read.

    Attributes:
        batch_size: Images per batch.
        workers: Number of threads that decode images.
        allow_truncated: Whether to read JPEGs whose end is missing.
        mirrors: Whether an image's values are the mean over the image and its mirror image.
        allocate: Allocates the pixels of a batch.
        ahead: Number of batches that are begun before the values of one are read.
    """

    batch_size: int
    workers: int
    allow_truncated: bool = False
    mirrors: bool = False
    allocate: Allocate = pageable
    ahead: int = 0


def at_once(forward: Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]) -> Begin:
    """Return a function that begins, by computing everything at once."""

    def begin(pixels: NDArray[np.uint8]) -> Callable[[], NDArray[np.floating[Any]]]:
        values = forward(pixels)
        return lambda: values

    return begin


def run_batches(
    begin: Begin,
    preprocessing: Preprocessing,
    images: Sequence[ImageSource],
    reading: Reading,
) -> Iterator[Outputs]:
    """Yield values of images, batch by batch in order.

    Args:
        begin: Begins to compute the values of a batch.
        preprocessing: What it expects of its pixels.
        images: The images.
        reading: How they are read.
    """
    batches = iterate_batches(
        images,
        eval_transform(preprocessing),
        batch_size=reading.batch_size,
        workers=reading.workers,
        allow_truncated=reading.allow_truncated,
        allocate=reading.allocate,
    )
    begun = ((batch, _begun(begin, batch, reading)) for batch in batches)
    for batch, read in after_others_have_begun(begun, reading.ahead):
        yield only_finite(Outputs(batch.rows, read(), batch.failures))


def _begun(begin: Begin, batch: Batch, reading: Reading) -> Callable[[], NDArray[np.floating[Any]]]:
    if not len(batch.rows):
        return lambda: np.empty((0, 0))
    read = begin(batch.pixels)
    if not reading.mirrors:
        return read
    # A copy, because engines take no arrays that are walked backwards.
    read_mirrored = begin(np.ascontiguousarray(batch.pixels[:, :, ::-1]))
    return lambda: (read() + read_mirrored()) / 2


@dataclass(frozen=True)
class PreparedPass:
    """What a model computes of images, prepared once for images that come in parts.

    Attributes:
        begin: Begins to compute the values of a batch.
        preprocessing: What it expects of its pixels.
        reading: How images are read.
        has_scores: Whether the last value of an image says how unusual it is.
    """

    begin: Begin
    preprocessing: Preprocessing
    reading: Reading
    has_scores: bool = False

    def __call__(self, images: Sequence[ImageSource]) -> Iterator[Outputs]:
        """Yield the values of images, batch by batch in order."""
        for part in run_batches(self.begin, self.preprocessing, images, self.reading):
            yield with_scores(part) if self.has_scores else part

    def of_pixels(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Return the values of images that are decoded and transformed, as one batch.

        Args:
            pixels: (B, H, W, 3) of the network's input size.
        """
        batch = Batch(np.arange(len(pixels)), pixels, ())
        part = only_finite(Outputs(batch.rows, _begun(self.begin, batch, self.reading)(), ()))
        return with_scores(part) if self.has_scores else part


def with_scores(outputs: Outputs) -> Outputs:
    """Return the outputs with the last column of their values as scores."""
    values = outputs.values
    return replace(outputs, values=values[:, :-1], scores=values[:, -1:].reshape(len(values)))


def only_finite(outputs: Outputs) -> Outputs:
    """Return the outputs without rows that hold NaN or infinity, which become failures."""
    finite = np.array([np.isfinite(row).all() for row in outputs.values], dtype=bool)
    if finite.all():
        return outputs
    broken = tuple((row, NOT_FINITE) for row in outputs.rows[~finite].tolist())
    failures = tuple(sorted(outputs.failures + broken))
    scores = None if outputs.scores is None else outputs.scores[finite]
    return Outputs(outputs.rows[finite], outputs.values[finite], failures, scores)
