"""Where a run computes, in what precision and memory: each decided in one place."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from transferkit.errors import OptionError

if TYPE_CHECKING:
    import torch

_BF16_INSTRUCTIONS = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")


class Device(StrEnum):
    """`auto` takes a CUDA GPU, else Apple's, else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class Precision(StrEnum):
    """`auto` is bf16 on a GPU or CPU with instructions for it, and fp32 elsewhere."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Cache(StrEnum):
    """Where what frozen layers give, and decoded pixels, are kept so as to be computed once.

    `auto` is disk where it fits the limit, so that later runs have it too, else memory where it
    fits a quarter of it, else off.
    """

    AUTO = "auto"
    MEMORY = "memory"
    DISK = "disk"
    OFF = "off"


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
    if precision is Precision.AUTO:
        return Precision.BF16 if has_fast_bf16(device) else Precision.FP32
    if precision is Precision.FP16 and device.type == "cpu":
        raise OptionError("--precision: fp16 needs a GPU; use auto, fp32 or bf16")
    return precision


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies matrices in bfloat16, and does not merely emulate it.

    Of a CPU torch tells this under private names only; where it does not know them, the answer is
    no.
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    asked = (getattr(torch.cpu, name, None) for name in _BF16_INSTRUCTIONS)
    return any(has() for has in asked if has)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The context in which the layers that can compute in `precision` do."""
    import torch

    dtype = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}.get(precision)
    return torch.autocast(device.type, dtype) if dtype else nullcontext()


def create_scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """What keeps gradients in the range of fp16; it leaves those of other precisions alone."""
    import torch

    return torch.amp.GradScaler(device.type, enabled=precision is Precision.FP16)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEEP_ABOVE = 2**31 - 1
_UNKNOWN_MEMORY = 2**33
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


def memory_budget(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int:
    """Return the bytes that caches in memory may take: a quarter of what this process may use.

    That is the machine's memory, or less where a control group limits it, as in containers.

    Args:
        root: Where control groups are mounted.
        membership: The file that says which groups this process is in.
    """
    return min([_physical_memory(), *_memory_limits(root, membership)]) // 4


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return _UNKNOWN_MEMORY  # Windows has no sysconf


def _memory_limits(root: Path, membership: Path) -> Iterator[int]:
    """Yield the limits of this process's control groups and their ancestors, in bytes.

    Version 2 has one tree and says `max` where there is no limit; version 1 has a tree per
    controller and says a number larger than any memory.
    """
    if not membership.is_file():
        return  # not Linux
    for line in membership.read_text("utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        group = top / path.lstrip("/")
        # Within a container the path may be the host's; the container's own limit is at the top.
        for folder in (group, *group.parents):
            limit = folder / name
            if folder.is_relative_to(top) and limit.is_file():
                text = limit.read_text("utf-8").strip()
                if text.isdecimal():
                    yield int(text)


def default_workers() -> int:
    """Return how many threads decode images by default: one per core, at most 16."""
    if hasattr(os, "sched_getaffinity"):
        return min(16, len(os.sched_getaffinity(0)))
    return min(16, os.cpu_count() or 1)
