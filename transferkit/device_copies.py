"""Copies between memory and a device, which a CUDA GPU makes while it computes.

A copy to a GPU waits for nothing if it starts in pinned memory, which the system never moves to
disk. It runs on a stream of its own, beside the computation that was begun before. The GPU
therefore receives a batch while it computes the one before, and what it has computed is read once
the next batch has been begun.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

_T = TypeVar("_T")

Allocate = Callable[[tuple[int, ...]], "NDArray[np.uint8]"]
"""`allocate(shape)` returns an array of bytes whose values are not set yet."""


def batch_memory(device: torch.device) -> Allocate:
    """Return what allocates the pixels of a batch that is copied to a device."""
    return _pinned if device.type == "cuda" else pageable


def pageable(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Allocate usual memory."""
    import numpy as np

    return np.empty(shape, dtype=np.uint8)


def _pinned(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    import torch

    array: NDArray[np.uint8] = torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
    return array


def to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return values on a device; those that are there already, as they are.

    A copy to a CUDA GPU is only begun: what is computed with it afterwards, on the current stream,
    waits for it on the GPU. The values must not be changed later.

    Args:
        values: Values in memory, or on the device.
        device: The device.
    """
    if values.device == device:
        return values
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    import torch

    stream = _copy_stream(device)
    with torch.cuda.stream(stream):
        copy = values.pin_memory().to(device, non_blocking=True)
    computing = torch.cuda.current_stream(device)
    computing.wait_stream(stream)
    # Its memory belongs to the copying stream, which would write the next batch there too early.
    copy.record_stream(computing)
    return copy


def begin_reading(values: torch.Tensor) -> Callable[[], NDArray[Any]]:
    """Begin to copy values to memory; return what waits for the copy and returns it.

    Args:
        values: Values on any device, without gradient.
    """
    if not values.is_cuda:
        array: NDArray[Any] = values.cpu().numpy()
        return lambda: array
    import torch

    copy = values.to("cpu", non_blocking=True)  # torch puts it into pinned memory
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(values.device))

    def read() -> NDArray[Any]:
        copied.synchronize()
        found: NDArray[Any] = copy.numpy()
        return found

    return read


def batches_ahead(device: torch.device) -> int:
    """Return how many batches are begun on a device before the values of one are read."""
    return 1 if device.type == "cuda" else 0


def after_others_have_begun(begun: Iterable[_T], ahead: int) -> Iterator[_T]:
    """Yield each of some items once `ahead` more have been created, or there are no more.

    >>> list(after_others_have_begun([1, 2, 3], 1))
    [1, 2, 3]
    """
    waiting: deque[_T] = deque()
    for item in begun:
        waiting.append(item)
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    import torch

    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
