"""Resolve how a command computes: device, precision, batch size and threads."""

import torch

from transferkit.devices import default_workers, resolve_device, resolve_precision
from transferkit.inference import ComputeSettings
from transferkit.memory import MicroBatches
from transferkit.models.network import Network
from transferkit.options.shared import ComputeOptions
from transferkit.reporter import Reporter


def resolve_compute(
    options: ComputeOptions, network: Network, reporter: Reporter
) -> ComputeSettings:
    """Resolve device, precision and threads, and move the network to its device.

    Args:
        options: The options as given.
        network: Moved to the device in place.
        reporter: Receives a notice when a batch does not fit in memory.

    Raises:
        OptionError: When this machine has no such device, or the device no such precision.
    """
    device = resolve_device(options.device)
    precision = resolve_precision(options.precision, device)
    network.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    workers = options.workers or default_workers()
    return ComputeSettings(
        device,
        precision,
        options.batch_size,
        workers,
        options.allow_truncated,
        MicroBatches(reporter.notice),
    )
