"""Where a run computes, and in what precision: each decided in one place."""

from __future__ import annotations

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


def default_workers() -> int:
    """Threads that decode images, where the user names no number: one a core, at most 16."""
    import os

    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)
