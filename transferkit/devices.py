"""Device, precision, threads and memory of a run, each decided in one place."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from ctypes.util import find_library
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from transferkit.errors import OptionError
from transferkit.processes import Processes, started_processes

if TYPE_CHECKING:
    import torch

_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Files of the drivers that torch can use: of NVIDIA, in Windows's Linux, and of AMD."""

USUAL_BATCH_SIZE = 32
"""Images per batch, unless an option or a GPU's memory says otherwise."""

_BF16_INSTRUCTIONS = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")


class Device(StrEnum):
    """Device to compute on: `auto` takes a CUDA GPU, else Apple's GPU, else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class Precision(StrEnum):
    """Precision to compute in: `auto` is bf16 where the hardware has it, and fp32 elsewhere."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Cache(StrEnum):
    """Where outputs of frozen layers and decoded pixels are kept so that each is computed once.

    `auto` takes disk if the rows fit the limit, so that later runs can use them too; else memory
    if they fit in a quarter of it; else off.
    """

    AUTO = "auto"
    MEMORY = "memory"
    DISK = "disk"
    OFF = "off"


def may_have_gpu() -> bool:
    """Return whether torch might find a GPU here; answered without importing torch."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return find_library("nvcuda") is not None
    return any(os.path.exists(driver) for driver in _GPU_DRIVERS)


def resolve_device(device: Device) -> torch.device:
    """Return the device to use.

    Raises:
        OptionError: When this machine does not have the requested device.
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
    processes = started_processes()
    return _of_process(device, processes) if processes.are_several else torch.device(device)


def _of_process(device: Device, processes: Processes) -> torch.device:
    """Return the device of one of several processes: a GPU of its own, or the CPU.

    Raises:
        OptionError: When the machine has too few GPUs, or torch cannot train on several of a kind.
    """
    import torch

    if device is Device.MPS:
        raise OptionError("--processes: Apple's GPU takes one process; leave it out")
    if device is not Device.CUDA:
        return torch.device(device)
    if processes.count_here > (count := torch.cuda.device_count()):
        raise OptionError(
            f"--processes: got {processes.count_here} on a machine with {count} GPUs, expected at "
            "most one per GPU; use --processes auto"
        )
    torch.cuda.set_device(processes.number_here)
    return torch.device("cuda", processes.number_here)


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """Return the precision to compute in on `device`.

    Raises:
        OptionError: When the device cannot compute in the requested precision.
    """
    if precision is Precision.AUTO:
        return Precision.BF16 if has_fast_bf16(device) else Precision.FP32
    if precision is Precision.FP16 and device.type == "cpu":
        raise OptionError("--precision: fp16 needs a GPU; use auto, fp32 or bf16")
    return precision


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies matrices in bfloat16 without emulating it.

    For a CPU, torch answers this under private names only; a version without them counts as no.
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    asked = (getattr(torch.cpu, name, None) for name in _BF16_INSTRUCTIONS)
    return any(has() for has in asked if has)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which layers compute in `precision` if they can."""
    import torch

    dtype = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}.get(precision)
    return torch.autocast(device.type, dtype) if dtype else nullcontext()


def create_scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """Return the scaler that keeps fp16 gradients in range; it does nothing in other precisions."""
    import torch

    return torch.amp.GradScaler(device.type, enabled=precision is Precision.FP16)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
_KEEP_ABOVE = 2**31 - 1
_MMAP_ABOVE = (2**30, 2**25)  # the second is the largest value that older versions accept

_MOST_WORKERS = 16
"""Threads beyond which reading images does not become faster."""

CORES_VARIABLE = "TRANSFERKIT_CORES"
"""Environment variable for the largest number of cores to use."""

_ASSUMED_MEMORY = 2**33
"""Bytes assumed where the system does not tell how much memory it has."""


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory, for a process that allocates and frees tensors every batch.

    By default glibc returns each large block to the system and requests it again, cleared page by
    page. With this setting the process keeps as much memory as it needed at its peak. The function
    does nothing if the environment already configures malloc (MALLOC_* or GLIBC_TUNABLES), or if
    the C library is not glibc.

    Returns:
        Whether the setting was applied.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    mallopt = _of_glibc("mallopt")
    kept = mallopt(_M_TRIM_THRESHOLD, _KEEP_ABOVE)
    return bool(kept and any(mallopt(_M_MMAP_THRESHOLD, size) for size in _MMAP_ABOVE))


def release_freed_memory() -> bool:
    """Let glibc return freed memory to the system now, for a process that is idle.

    Returns:
        Whether it returned any; never if the C library is not glibc.
    """
    return bool(_of_glibc("malloc_trim")(0))


def _of_glibc(name: str) -> Callable[..., int]:
    """Return a function of glibc; one that returns 0 with another C library."""
    try:
        os.confstr("CS_GNU_LIBC_VERSION")
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError, ValueError):
        return lambda *values: 0  # macOS, Windows, musl
    return function


def memory_budget(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int:
    """Return the bytes that caches in memory may take: a quarter of what this process may use.

    The process may use the machine's memory, or less if a control group limits it, as containers
    do; of several processes, each has an equal part.

    Args:
        root: Folder where control groups are mounted.
        membership: File that names the control groups of this process.
    """
    usable = min([_physical_memory(), *_memory_limits(root, membership)])
    return usable // 4 // started_processes().count_here


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return _ASSUMED_MEMORY  # Windows has no sysconf


def _memory_limits(root: Path, membership: Path) -> Iterator[int]:
    """Yield the memory limits of this process's control groups and their ancestors, in bytes.

    Version 2 has one tree, and its files say `max` for no limit. Version 1 has one tree per
    controller, and its files give a number larger than any memory for no limit.
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
        # In a container the path may be the host's; the container's own limit is then at the top.
        for folder in (group, *group.parents):
            limit = folder / name
            if folder.is_relative_to(top) and limit.is_file():
                text = limit.read_text("utf-8").strip()
                if text.isdecimal():
                    yield int(text)


def available_cores() -> int:
    """Return the number of CPU cores that this process may use, 1 or more.

    Of several processes on a machine, each has an equal part. `TRANSFERKIT_CORES` may say fewer.
    """
    here = (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1  # macOS and Windows
    )
    share = max(1, here // started_processes().count_here)
    limit = os.environ.get(CORES_VARIABLE, "")
    return min(share, int(limit)) if limit.isdecimal() and int(limit) else share


def divide_threads() -> None:
    """Let torch compute with this process's part of the cores, if it does not have all of them.

    The number that the user has set in OMP_NUM_THREADS stays.
    """
    if started_processes().count_here == 1 and CORES_VARIABLE not in os.environ:
        return
    import torch

    if os.environ.get("OMP_NUM_THREADS") in (None, "1"):  # torchrun sets 1 by itself
        torch.set_num_threads(available_cores())


def default_workers(*, in_store: bool = False) -> int:
    """Return the default number of threads that read and decode images.

    It is one per core and at most 16, or 16 where the threads wait for a store most of the time.

    Args:
        in_store: Whether the images are in a store.
    """
    return _MOST_WORKERS if in_store else min(_MOST_WORKERS, available_cores())
