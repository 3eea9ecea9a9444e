"""The pace of a network on this machine: seconds per image, from a few timed batches."""

import time
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from transferkit.compute import ComputeSettings
from transferkit.data.dataset import Dataset
from transferkit.data.loader import iterate_batches
from transferkit.data.transforms import eval_transform
from transferkit.devices import autocast
from transferkit.forward_pass import Computation, create_pass
from transferkit.memory import is_out_of_memory
from transferkit.models.depthwise import train_depthwise_in_full_precision
from transferkit.models.freezing import freeze
from transferkit.models.network_cut import NetworkCut
from transferkit.models.strategies import Phase

_IMAGES = 16
"""Images that pass through the network in a timed batch."""
_DECODED = 33
"""Images that are decoded, the first of them before the clock starts."""
_SLOW = 0.5
"""If one image takes this many seconds or more, one is enough for the estimate."""


class Pace:
    """Seconds per image; those of a step are measured when first asked for.

    The network is left in eval mode, with some of its parameters frozen. Nothing draws from a
    random generator.

    Args:
        dataset: The images, some of which are decoded.
        frozen: What is computed without gradient.
        compute: Device, precision, engine and threads.

    Attributes:
        decode: Seconds in which an image is read and prepared.
        forward: Seconds of an image in `frozen`.
    """

    def __init__(self, dataset: Dataset, frozen: Computation, compute: ComputeSettings) -> None:
        network = frozen.network
        self._network, self._compute = network, compute
        self.decode = self._decoding(dataset)
        forward = create_pass(frozen, compute)
        _, *size = network.preprocessing.input_size
        pixels = np.zeros((_IMAGES, *size, 3), dtype=np.uint8)
        self.forward = self._timed(lambda count: forward.run(pixels[:count]))
        self._steps: dict[frozenset[str], float] = {}

    def _decoding(self, dataset: Dataset) -> float:
        """Return the seconds in which an image is read and prepared."""
        files = [dataset.index.files[i] for i in dataset.rows("train")[:_DECODED]]
        transform, seconds = eval_transform(self._network.preprocessing), 0.0
        # The first image warms up, which takes as long as many images.
        for part in (files[:1], files[1:] or files):
            started = time.perf_counter()
            for _ in iterate_batches(
                part,
                transform,
                batch_size=_DECODED,
                workers=self._compute.workers,
                allow_truncated=self._compute.allow_truncated,
            ):
                pass
            seconds = (time.perf_counter() - started) / len(part)
        return seconds

    def step(self, phase: Phase, cut: NetworkCut | None) -> float:
        """Return the seconds of a forward and backward pass through the layers a phase trains."""
        if phase.parameters not in self._steps:
            self._steps[phase.parameters] = self._measured_step(phase, cut)
        return self._steps[phase.parameters]

    def _measured_step(self, phase: Phase, cut: NetworkCut | None) -> float:
        network = self._network
        freeze(network.module, phase.parameters)
        network.module.eval()  # in train mode dropout would draw from the run's generators
        module, inputs = network.module, self._images()
        if cut:
            module = cut.suffix
            with torch.no_grad():
                inputs = self._compute.micro_batches.compute(cut.prefix, inputs)

        # A copy, because the layers that are changed here may be frozen and fused later.
        module = deepcopy(module)
        train_depthwise_in_full_precision(module, self._compute.device, self._compute.precision)

        def step(count: int) -> None:
            with autocast(self._compute.device, self._compute.precision):
                logits = module(inputs[:count])
            logits.float().logsumexp(dim=1).sum().backward()

        return self._timed(step)

    def _images(self) -> Tensor:
        size = self._network.preprocessing.input_size
        images = torch.zeros(_IMAGES, *size, device=self._compute.device)
        return images.contiguous(memory_format=torch.channels_last)

    def _timed(self, run: Callable[[int], object]) -> float:
        """Return the seconds per image of a function that computes a number of images."""
        # Each size runs twice: its first call warms up, which may take seconds.
        for number, count in enumerate((1, 1, _IMAGES, _IMAGES)):
            started = time.perf_counter()
            try:
                run(count)
            except RuntimeError as error:
                if count > 1 and is_out_of_memory(error):
                    break  # the time of one image has to do
                raise
            if self._compute.device.type == "cuda":
                torch.cuda.synchronize()
            seconds = (time.perf_counter() - started) / count
            if number and seconds > _SLOW:
                break
        return seconds
