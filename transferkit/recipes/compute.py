"""From a command's options to the way it computes."""

from transferkit.devices import default_workers, resolve_device, resolve_precision
from transferkit.inference import Pass
from transferkit.models.network import Network
from transferkit.recipes.options import ComputeOptions


def create_pass(options: ComputeOptions, network: Network) -> Pass:
    """Settle device, precision and threads, and put the network on its device.

    Raises:
        OptionError: When this machine has no such device, or it has no such precision.
    """
    device = resolve_device(options.device)
    precision = resolve_precision(options.precision, device)
    network.module.to(device)
    return Pass(device, precision, options.batch_size, options.workers or default_workers())
