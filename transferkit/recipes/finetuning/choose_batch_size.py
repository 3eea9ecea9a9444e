"""Choose the batch size of a run by the memory of the GPU that trains it."""

import torch

from transferkit.batch_size import fitting_batch_size, power_of_two
from transferkit.compute import ComputeSettings
from transferkit.devices import USUAL_BATCH_SIZE, autocast
from transferkit.models.freezing import freeze
from transferkit.models.network import Network
from transferkit.models.network_cut import cut_network
from transferkit.models.strategies import Phase
from transferkit.processes import Processes

_STEPS = 20
"""Steps that a larger batch must leave in an epoch. Not measured: a rule of thumb, so that a small
dataset is not trained in a few steps because the GPU is large."""

_MOMENTS = 2
"""Numbers that AdamW keeps for each trained parameter."""


def choose_batch_size(
    network: Network, phase: Phase, compute: ComputeSettings, images: int, processes: Processes
) -> int:
    """Return the batch size for training on a GPU; the usual one on other devices.

    Args:
        network: The network, on its device; left frozen as in the phase, in eval mode.
        phase: The phase that trains the most.
        compute: Device and precision.
        images: Number of training images.
        processes: The processes that divide each batch.
    """
    if compute.device.type != "cuda":
        return USUAL_BATCH_SIZE
    freeze(network.module, phase.parameters)
    network.module.eval()  # dropout would draw from the run's generators
    cut = cut_network(network, phase.parameters) if phase.freezes_anything else None
    trained = [p for p in network.module.parameters() if p.requires_grad]

    def step(count: int) -> None:
        inputs = network.blank_image().expand(count, -1, -1, -1)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        with autocast(compute.device, compute.precision):
            if cut:
                with torch.no_grad():
                    inputs = cut.prefix(inputs)
            logits = (cut.suffix if cut else network.module)(inputs)
        logits.float().logsumexp(dim=1).sum().backward()
        for parameter in trained:
            parameter.grad = None

    kept = _MOMENTS * sum(parameter.nbytes for parameter in trained)
    fitting = fitting_batch_size(step, compute.device, kept=kept)
    # GPUs may have different amounts of free memory, and the batch is divided equally.
    together = processes.lowest(fitting) * processes.count
    return max(USUAL_BATCH_SIZE, power_of_two(min(together, images // _STEPS)))
