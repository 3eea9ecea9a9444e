"""The batch size that fits in the free memory of a GPU, from the peaks of two small batches."""

from collections.abc import Callable

import torch

from transferkit.devices import USUAL_BATCH_SIZE
from transferkit.memory import is_out_of_memory

MOST = 1024
"""Not measured: larger batches are hardly computed faster per image."""

_SMALL = 8
_SHARE = 0.8
"""Share of the free memory to use. The rest is for what grows otherwise than by the image, such as
work space of kernels, and for gaps between blocks."""


def fitting_batch_size(
    compute: Callable[[int], object], device: torch.device, *, kept: int = 0
) -> int:
    """Return the largest power of two of images that is expected to fit in a GPU's free memory.

    The memory of a batch is a constant and a share per image, which are measured. The answer
    depends on what else uses the GPU at the moment.

    Args:
        compute: Computes so many images, and keeps nothing of them.
        device: The GPU.
        kept: Bytes to leave for what is allocated later.

    Returns:
        The number of images, from the usual one, which also may not fit, to `MOST`.
    """
    try:
        compute(_SMALL)  # allocates what is kept from then on, as libraries do
        small = _peak(lambda: compute(_SMALL), device)
        usual = _peak(lambda: compute(USUAL_BATCH_SIZE), device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return USUAL_BATCH_SIZE
    each = max(1.0, (usual - small) / (USUAL_BATCH_SIZE - _SMALL))
    constant = max(0.0, small - _SMALL * each)
    fitting = int((_SHARE * _free(device) - kept - constant) / each)
    return max(USUAL_BATCH_SIZE, power_of_two(min(fitting, MOST)))


def power_of_two(number: int) -> int:
    """Return the largest power of two up to a number; 0 for numbers below 1."""
    return 1 << (number.bit_length() - 1) if number > 0 else 0


def _peak(run: Callable[[], object], device: torch.device) -> int:
    """Return how many bytes more than before are allocated at the peak."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    return torch.cuda.max_memory_allocated(device) - before


def _free(device: torch.device) -> int:
    """Return the bytes that are free on the GPU, or held by torch for later."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
