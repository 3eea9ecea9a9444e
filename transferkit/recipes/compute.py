"""From a command's options to the way it computes, and what came of the images."""

from collections.abc import Mapping

import torch

from transferkit.data.bad_images import OnBadImage, require_allowed
from transferkit.data.index import ImageIndex
from transferkit.devices import default_workers, resolve_device, resolve_precision
from transferkit.errors import DataError
from transferkit.inference import Pass
from transferkit.memory import Pieces
from transferkit.models.network import Network
from transferkit.recipes.shared_options import ComputeOptions
from transferkit.reporting import LeftOut, Reporter


def create_pass(options: ComputeOptions, network: Network, reporter: Reporter) -> Pass:
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
    return Pass(
        device,
        precision,
        options.batch_size,
        workers,
        options.allow_truncated,
        Pieces(reporter.notice),
    )


def readable_part(
    index: ImageIndex, reasons: Mapping[int, str], on_bad_image: OnBadImage
) -> ImageIndex:
    """The images that a pass over `index` could read; the others are among its `left_out`.

    Args:
        index: The images.
        reasons: Position -> why it could not be read.
        on_bad_image: What becomes of the others.

    Raises:
        DataError: When none could be read, or all must be.
    """
    if len(reasons) == len(index):
        raise DataError(f"{index.root}: none of its {len(index)} images can be read")
    unreadable = (LeftOut(index.paths[row], why, unreadable=True) for row, why in reasons.items())
    readable = index.without(tuple(unreadable))
    require_allowed(index.root, readable.left_out, on_bad_image)
    return readable
