"""Copies from memory to a device, which a CUDA GPU makes while it computes.

A copy to a GPU waits for nothing if it starts in pinned memory, which the system never moves to
disk. It runs on a stream of its own, beside the computation that was begun before. The GPU
therefore receives a batch while it computes the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

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


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    import torch

    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
