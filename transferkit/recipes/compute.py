"""From a command's options to the way it computes, and what came of the images."""

from collections.abc import Mapping

import torch

from transferkit.data.index import ImageIndex
from transferkit.devices import default_workers, resolve_device, resolve_precision
from transferkit.errors import DataError
from transferkit.inference import Pass
from transferkit.models.network import Network
from transferkit.recipes.shared_options import ComputeOptions
from transferkit.reporting import LeftOut


def create_pass(options: ComputeOptions, network: Network) -> Pass:
    """Settle device, precision and threads, and put the network on its device.

    Raises:
        OptionError: When this machine has no such device, or it has no such precision.
    """
    device = resolve_device(options.device)
    precision = resolve_precision(options.precision, device)
    network.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Pass(device, precision, options.batch_size, options.workers or default_workers())


def readable_part(index: ImageIndex, reasons: Mapping[int, str]) -> ImageIndex:
    """The images that a pass over `index` could read; the others are among its `left_out`.

    Args:
        index: The images.
        reasons: Position -> why it could not be read.

    Raises:
        DataError: When none could be read.
    """
    if len(reasons) == len(index):
        raise DataError(f"{index.root}: none of its {len(index)} images can be read")
    unreadable = (LeftOut(index.paths[row], why, unreadable=True) for row, why in reasons.items())
    return index.without(tuple(unreadable))
