"""Estimate how long a run and other strategies take, from a few timed batches."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from transferkit.compute import ComputeSettings
from transferkit.data.dataset import Dataset
from transferkit.data.loader import iterate_batches
from transferkit.data.transforms import eval_transform
from transferkit.devices import Cache, autocast
from transferkit.engines import Engine
from transferkit.forward_pass import Computation, create_pass, logits_of, prefix_of
from transferkit.memory import is_out_of_memory
from transferkit.models.depthwise import train_depthwise_in_full_precision
from transferkit.models.freezing import freeze
from transferkit.models.network import Network
from transferkit.models.network_cut import NetworkCut, cut_network
from transferkit.models.strategies import HeadStart, Phase
from transferkit.models.unfreeze import EVERYTHING, HEAD_ALONE, last_stages
from transferkit.recipes.finetuning.caches import CacheChoice
from transferkit.recipes.finetuning.run_in_progress import TrainingRun
from transferkit.recipes.finetuning.settings import PhaseSettings
from transferkit.recipes.finetuning.start_head import MOST

_IMAGES = 8
"""Images that pass through the network in a timed batch."""
_DECODED = 33
"""Images that are decoded, the first of them before the clock starts."""
_SLOW = 0.5
"""If one image takes this many seconds or more, one is enough for the estimate."""
_SOON = 20.0
"""A run shorter than this ends before anyone would choose another strategy, in seconds."""

_OTHERS = {"head": HEAD_ALONE, "last:1": last_stages(1), "full": EVERYTHING}


def estimate_seconds(run: TrainingRun) -> tuple[tuple[str, float], ...]:
    """Return (what, seconds) of this run, followed by other strategies unless the run is short.

    Rows that earlier runs cached are not deducted. The network is left in eval mode, with some of
    its parameters frozen. Nothing draws from a random generator.
    """
    pace = _Pace(run.dataset, *_passes(run))
    images = len(run.dataset.rows("train")), len(run.dataset.rows("val"))
    check = sum(images) * pace.decode  # the check decodes every image once
    own = (
        check
        + _start_seconds(pace, run)
        + sum(_phase_seconds(pace, entry, images) for entry in run.settings.phases)
    )
    estimates = [("this run", own)]
    if own > _SOON or run.options.dry_run:
        epochs = range(1, run.options.epochs + 1)
        for name, unfreeze in _OTHERS.items():
            entry = _cached_phase(run.network, Phase.of(run.network, unfreeze, epochs))
            estimates.append((name, check + _phase_seconds(pace, entry, images)))
    return tuple(estimates)


def _start_seconds(pace: "_Pace", run: TrainingRun) -> float:
    """Return the seconds of the pass that a linear start of the head takes."""
    if run.settings.head_start is HeadStart.RANDOM:
        return 0.0
    return min(len(run.dataset.rows("train")), MOST) * (pace.decode + pace.forward)


def _passes(run: TrainingRun) -> tuple[Computation, ComputeSettings]:
    """Return what the last phase computes without gradient, and how; else all layers."""
    last = run.settings.phases[-1]
    if last.cut is None:
        return logits_of(run.network), replace(run.compute, engine=Engine.TORCH)
    return prefix_of(run.network, last.cut), replace(run.compute, engine=last.engine)


def _cached_phase(network: Network, phase: Phase) -> PhaseSettings:
    """Return a phase that reads one view of its images, cached if layers are frozen."""
    cut = cut_network(network, phase.parameters) if phase.freezes_anything else None
    place = Cache.MEMORY if phase.freezes_anything else Cache.OFF
    return PhaseSettings(phase, 1, cut, Engine.TORCH, CacheChoice(place))


def _phase_seconds(pace: "_Pace", entry: PhaseSettings, images: tuple[int, int]) -> float:
    phase, (train, val) = entry.phase, images
    epochs, step = len(phase.epochs), pace.step(phase, entry.cut)
    trained = epochs * (train + val / 3) * step  # validation is a forward pass, a third of a step
    if not phase.freezes_anything:
        return trained + (train + val) * pace.decode
    read = pace.decode + pace.forward
    if entry.cache.place is Cache.OFF:
        return trained + epochs * (train + val) * read
    passes = min(entry.views, epochs) if entry.views else epochs
    return trained + (passes * train + val) * read


class _Pace:
    """Seconds per image on this machine, measured when first asked for."""

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
