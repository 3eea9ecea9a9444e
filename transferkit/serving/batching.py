"""Gather images of concurrent requests into batches, which one thread computes."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.inference import Outputs
from transferkit.serving.refusal import come_later


@dataclass(frozen=True)
class Computed:
    """What the model computed of an image.

    Attributes:
        values: (C,) probabilities; None where they are not finite.
        score: How unusual the image is; None where that is not known.
        failure: Why there are no probabilities; empty where there are.
    """

    values: NDArray[np.floating[Any]] | None
    score: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class _Waiting:
    """An image that waits to be computed.

    Attributes:
        pixels: (H, W, 3) uint8.
        future: Receives what is computed; a cancelled one is left out.
    """

    pixels: NDArray[np.uint8]
    future: Future[Computed] = field(default_factory=Future)


class Places:
    """The places of images that are decoded or wait to be computed. For one thread."""

    def __init__(self, count: int) -> None:
        """Have `count` places."""
        self.count = count
        self.free = count

    @contextmanager
    def taken(self, images: int) -> Iterator[None]:
        """Take places for images, until the end of the block.

        Raises:
            Refusal: When there are too few (503).
        """
        if images > self.free:
            raise come_later(
                f"{self.count - self.free} images are waiting, and {self.count} may, so there is "
                f"no place for {images} more"
            )
        self.free -= images
        try:
            yield
        finally:
            self.free += images


class BatchingThread:
    """The one thread that runs the model, on batches of the images that wait.

    An image whose future was cancelled before is not computed.
    """

    def __init__(
        self,
        compute: Callable[[NDArray[np.uint8]], Outputs],
        *,
        batch_size: int,
        max_wait: float,
    ) -> None:
        """Start the thread.

        Args:
            compute: Pixels (B, H, W, 3) to their values.
            batch_size: Most images of a batch.
            max_wait: Seconds that the first image of a batch waits for others.
        """
        self._compute = compute
        self._batch_size = batch_size
        self._max_wait = max_wait
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._model = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="model")
        self._thread.start()

    def submit(self, pixels: NDArray[np.uint8]) -> Future[Computed]:
        """Let an image (H, W, 3) uint8 be computed."""
        waiting = _Waiting(pixels)
        self._queue.put(waiting)
        return waiting.future

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the caller's thread use the model until the end of the block."""
        with self._model:
            yield

    def close(self) -> None:
        """Compute what waits, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            if batch := self._gather(first):
                with self._model:
                    self._answer(batch)

    def _gather(self, first: _Waiting) -> list[_Waiting]:
        """Return the images of the next batch, without those that nobody waits for any more."""
        batch = [first] if first.future.set_running_or_notify_cancel() else []
        until = monotonic() + self._max_wait
        while len(batch) < self._batch_size:
            try:
                waiting = self._queue.get(timeout=max(0.0, until - monotonic()))
            except Empty:
                break
            if waiting is None:
                self._queue.put(None)  # the thread ends after this batch
                break
            if waiting.future.set_running_or_notify_cancel():
                batch.append(waiting)
        return batch

    def _answer(self, batch: list[_Waiting]) -> None:
        try:
            computed = _by_image(self._compute(np.stack([one.pixels for one in batch])))
        except Exception as error:
            # It belongs to the requests of this batch, which tell it; the next one is computed.
            for one in batch:
                one.future.set_exception(error)
            return
        for row, one in enumerate(batch):
            one.future.set_result(computed[row])


def _by_image(part: Outputs) -> dict[int, Computed]:
    """Return what was computed, by the position of the image in the batch."""
    found = {row: Computed(None, failure=reason) for row, reason in part.failures}
    for row, values, score in part.by_image():
        found[row] = Computed(values, score)
    return found
