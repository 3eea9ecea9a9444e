"""Where a run computes, in what precision and memory: each decided in one place."""

from __future__ import annotations

import ctypes
import os
from enum import StrEnum
from typing import TYPE_CHECKING

from transferkit.errors import OptionError

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator


class Device(StrEnum):
    """`auto` takes a CUDA GPU, else Apple's, else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class Precision(StrEnum):
    """`auto` is bf16 on a GPU that has it and fp32 elsewhere."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


def resolve_device(device: Device) -> torch.device:
    """The device to use.

    Raises:
        OptionError: When the one asked for is not on this machine.
    """
    import torch

    here = {
        Device.CUDA: torch.cuda.is_available(),
        Device.MPS: torch.backends.mps.is_available(),
        Device.CPU: True,
    }
    if device is Device.AUTO:
        device = next(name for name, present in here.items() if present)
    if not here[device]:
        present = ", ".join(name for name, is_here in here.items() if is_here)
        raise OptionError(f"--device: got {device}, but this machine has {present}; use auto")
    return torch.device(device)


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """The precision to compute in on `device`.

    Raises:
        OptionError: When the device cannot compute in it.
    """
    import torch

    if precision is Precision.AUTO:
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return Precision.BF16 if has_bf16 else Precision.FP32
    if precision is Precision.FP16 and device.type == "cpu":
        raise OptionError("--precision: fp16 needs a GPU; use auto, fp32 or bf16")
    return precision


def create_accelerator(device: torch.device, precision: Precision) -> Accelerator:
    """Accelerate's handle on that device and precision."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # Accelerate keeps the first run's settings for the whole process; a second run in the same
    # notebook may want others.
    AcceleratorState._reset_state(reset_partial_state=True)
    mixed = {Precision.BF16: "bf16", Precision.FP16: "fp16"}.get(precision, "no")
    return Accelerator(cpu=device.type == "cpu", mixed_precision=mixed)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEEP_ABOVE = 2**31 - 1
_MMAP_ABOVE = (2**30, 2**25)  # the second is the most that older versions take


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed, for a process whose tensors come and go by the batch.

    Otherwise it hands each large block back to the system and takes it anew, cleared page by page.
    The process is left holding the most that it once needed. Nothing is done where the environment
    already settles it (MALLOC_* or GLIBC_TUNABLES), or where the C library is another.

    Returns:
        Whether it was done.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    try:
        os.confstr("CS_GNU_LIBC_VERSION")
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError, ValueError):
        return False  # not glibc: macOS, Windows, musl
    kept = mallopt(_M_TRIM_THRESHOLD, _KEEP_ABOVE)
    return bool(kept and any(mallopt(_M_MMAP_THRESHOLD, size) for size in _MMAP_ABOVE))


def default_workers() -> int:
    """Threads that decode images, where the user names no number: one a core, at most 16."""
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)
