"""How a command computes: device, precision, engine and batching."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch

from transferkit.device_copies import batch_memory, batches_ahead
from transferkit.devices import Precision, autocast
from transferkit.engines import Engine
from transferkit.inference import Reading
from transferkit.memory import MicroBatches


@dataclass(frozen=True)
class ComputeSettings:
    """Device, precision, engine and batching of passes over images.

    Attributes:
        device: Device of the network.
        precision: Precision of the forward pass; results are float32 in any case.
        batch_size: Images per batch.
        workers: Number of threads that decode images.
        allow_truncated: Whether to read JPEGs whose end is missing.
        engine: What computes passes without gradient; `auto` is OpenVINO, or torch for a network
            that OpenVINO cannot compute.
        micro_batches: Number of images that torch computes at once.
        notice: Receives what the user should know about a pass.
        mirrors: Whether an image's values are the mean over the image and its mirror image.
    """

    device: torch.device
    precision: Precision
    batch_size: int
    workers: int
    allow_truncated: bool = False
    engine: Engine = Engine.TORCH
    micro_batches: MicroBatches = field(default_factory=MicroBatches, compare=False)
    notice: Callable[[str], None] = field(default=lambda text: None, compare=False)
    mirrors: bool = False

    @property
    def reading(self) -> Reading:
        """How images are read."""
        return Reading(
            self.batch_size,
            self.workers,
            self.allow_truncated,
            self.mirrors,
            batch_memory(self.device),
            batches_ahead(self.device),
        )

    def autocast_for(self, dtype: torch.dtype) -> AbstractContextManager[object]:
        """Return the autocast context for layers with weights of a type; none for cast weights."""
        is_cast = dtype is not torch.float32
        return nullcontext() if is_cast else autocast(self.device, self.precision)
