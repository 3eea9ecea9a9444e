"""When memory does not suffice for a batch: half of it at a time, then a quarter, and so on."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from transferkit.errors import TransferKitError

_T = TypeVar("_T")
_TOLD = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch's errors say, where they have no type of their own."""


class MicroBatches:
    """How many images are computed at once: a whole batch, until memory does not suffice.

    Args:
        notice: Told when the number is halved.

    Attributes:
        largest: The number, 0 for whole batches.
    """

    def __init__(self, notice: Callable[[str], None] = lambda _: None) -> None:
        self.largest = 0
        self._notice = notice

    def run(self, count: int, attempt: Callable[[int], _T], undo: Callable[[], None]) -> _T:
        """Call a function with the number of images it may take at once, fewer if it must be.

        Args:
            count: How many images there are.
            attempt: What is called.
            undo: Called before another attempt.

        Raises:
            TransferKitError: When memory does not suffice for one image.
        """
        while True:
            size = min(count, self.largest or count)
            try:
                return attempt(size)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = " ".join(str(error).split())[:200]
            # Not in the `except`: its traceback would hold on to all that was computed.
            undo()
            if size == 1:
                raise TransferKitError(
                    f"out of memory with one image at a time ({reason}); try a smaller "
                    "--image-size, less with --unfreeze, or another backbone"
                )
            self.largest = (size + 1) // 2
            self._notice(
                f"out of memory with {size} images at a time: goes on with {self.largest}, and "
                "adds up what they give, so that batches stay as large as they are"
            )
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def compute(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """`function(images)`, by pieces of the first axis if need be."""

        def attempt(size: int) -> Tensor:
            if size == len(images):
                return function(images)
            return torch.cat([function(part) for part in torch.split(images, size)])

        return self.run(len(images), attempt, lambda: None)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch means that there is no memory left, on a GPU or not."""
    return isinstance(error, torch.OutOfMemoryError) or any(t in str(error) for t in _TOLD)
