"""From a command's options to the way it computes, and what came of the images."""

import torch

from transferkit.devices import default_workers, resolve_device, resolve_precision
from transferkit.inference import ComputeSettings
from transferkit.memory import MicroBatches
from transferkit.models.network import Network
from transferkit.options.shared import ComputeOptions
from transferkit.reporting import Reporter


def resolve_compute(
    options: ComputeOptions, network: Network, reporter: Reporter
) -> ComputeSettings:
    """Settle device, precision and threads, and put the network on its device.

    Args:
        options: What is wanted.
        network: Moved.
        reporter: Told when memory does not suffice for a batch.

    Raises:
        OptionError: When this machine has no such device, or it has no such precision.
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
