"""Micro-batches: when memory runs out, a batch is computed in halves, quarters and so on."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from transferkit.errors import TransferKitError

_T = TypeVar("_T")
_MESSAGES = ("out of memory", "can't allocate memory", "not enough memory")
"""Texts in torch's out-of-memory errors that have no type of their own."""


class MicroBatches:
    """Number of images that are computed at once: a whole batch, until memory runs out.

    Args:
        notice: Receives a message whenever the number is halved.

    Attributes:
        largest: Images per micro-batch; 0 for whole batches.
    """

    def __init__(self, notice: Callable[[str], None] = lambda _: None) -> None:
        self.largest = 0
        self._notice = notice

    def run(self, count: int, attempt: Callable[[int], _T], undo: Callable[[], None]) -> _T:
        """Call `attempt` with a number of images, halving it until memory suffices.

        Args:
            count: Number of images in the batch.
            attempt: Computes the batch; receives how many images to compute at once.
            undo: Undoes a failed attempt; called before the next one.

        Raises:
            TransferKitError: When memory runs out with a single image.
        """
        while True:
            size = min(count, self.largest or count)
            try:
                return attempt(size)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = " ".join(str(error).split())[:200]
            # Outside the `except`: its traceback would keep every computed tensor alive.
            undo()
            if size == 1:
                raise TransferKitError(
                    f"out of memory with one image at a time ({reason}); try a smaller "
                    "--image-size, training less with --unfreeze, or another backbone"
                )
            self.largest = (size + 1) // 2
            self._notice(
                f"out of memory with {size} images at a time: continuing with {self.largest} and "
                "combining their results, so the batch size stays the same"
            )
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def run_whole(self, count: int, attempt: Callable[[int], _T]) -> _T:
        """Call `attempt` with all images at once, where a failed attempt cannot be undone.

        Args:
            count: Number of images.
            attempt: Computes them; receives their number.

        Raises:
            TransferKitError: When memory runs out.
        """
        try:
            return attempt(count)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200]
            raise TransferKitError(
                f"out of memory with {count} images in one of several processes ({reason}); try a "
                "smaller --batch-size, or more processes"
            ) from error

    def compute(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Return `function(images)`, computed in micro-batches along the first axis if needed."""

        def attempt(size: int) -> Tensor:
            if size == len(images):
                return function(images)
            return torch.cat([function(part) for part in torch.split(images, size)])

        return self.run(len(images), attempt, lambda: None)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error of torch means that memory ran out, on the GPU or the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or any(t in str(error) for t in _MESSAGES)
