"""How long a run is going to take, and the other strategies beside it, from a few timed batches."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from transferkit.data.dataset import Dataset
from transferkit.data.loader import iterate_batches
from transferkit.data.transforms import eval_transform
from transferkit.devices import Cache, autocast
from transferkit.inference import Pass, fast_module
from transferkit.memory import is_out_of_memory
from transferkit.models.freezing import freeze, trainable_stages
from transferkit.models.network import Network
from transferkit.models.phases import Phase
from transferkit.models.splitting import split
from transferkit.recipes.caching import PhaseCache
from transferkit.recipes.finetune_options import FinetuneOptions
from transferkit.recipes.settling import settle_views

_IMAGES = 8
_SLOW = 0.5
"""Seconds for one image from which on one is enough to go by."""
_SOON = 20.0
"""Seconds below which a run is over before anyone would choose another strategy."""

_OTHERS = {"head": "head", "last:1": "last:1", "full": "all"}


class _Pace:
    """Seconds an image takes on this machine, measured when first asked for."""

    def __init__(self, dataset: Dataset, network: Network, how: Pass) -> None:
        self._network, self._how = network, how
        files = [dataset.index.files[i] for i in dataset.rows("train")[:_IMAGES]]
        transform = eval_transform(network.preprocessing)
        started = time.perf_counter()
        batches = iterate_batches(
            files,
            transform,
            batch_size=_IMAGES,
            workers=how.workers,
            allow_truncated=how.allow_truncated,
        )
        for _ in batches:
            pass
        self.decode = (time.perf_counter() - started) / len(files)
        module, dtype = fast_module(network.module, network.blank_image(), how)

        @torch.no_grad()
        def forward(images: Tensor) -> None:
            with how.autocast_for(dtype):
                module(images.to(dtype))

        self.forward = self._timed(forward, self._images())
        self._steps: dict[str, float] = {}

    def step(self, unfreeze: str) -> float:
        """Forward and backward through what an `--unfreeze` value trains."""
        if unfreeze not in self._steps:
            self._steps[unfreeze] = self._measured_step(unfreeze)
        return self._steps[unfreeze]

    def _measured_step(self, unfreeze: str) -> float:
        network = self._network
        stages = trainable_stages(network.stages, unfreeze)
        trained = frozenset(name for stage in stages for name in stage.parameters)
        freeze(network.module, trained)
        network.module.eval()  # what is random in train mode would draw from the run's generators
        parts, inputs = split(network, trained), self._images()
        module = parts.suffix if parts else network.module
        if parts:
            with torch.no_grad():
                inputs = self._how.pieces.compute(parts.prefix, inputs)

        def step(given: Tensor) -> None:
            with autocast(self._how.device, self._how.precision):
                logits = module(given)
            logits.float().logsumexp(dim=1).sum().backward()

        seconds = self._timed(step, inputs)
        for parameter in network.module.parameters():
            parameter.grad = None
        return seconds

    def _images(self) -> Tensor:
        size = self._network.preprocessing.input_size
        images = torch.zeros(_IMAGES, *size, device=self._how.device)
        return images.contiguous(memory_format=torch.channels_last)

    def _timed(self, run: Callable[[Tensor], None], given: Tensor) -> float:
        """Seconds an image."""
        # Each size twice: the first call of it also warms up, which may take seconds.
        for number, count in enumerate((1, 1, len(given), len(given))):
            started = time.perf_counter()
            try:
                run(given[:count])
            except RuntimeError as error:
                if count > 1 and is_out_of_memory(error):
                    break  # one image then has to do
                raise
            if self._how.device.type == "cuda":
                torch.cuda.synchronize()
            seconds = (time.perf_counter() - started) / count
            if number and seconds > _SLOW:
                break
        return seconds


def estimate_seconds(
    options: FinetuneOptions,
    dataset: Dataset,
    network: Network,
    phases: Sequence[Phase],
    caches: Sequence[PhaseCache],
    how: Pass,
) -> tuple[tuple[str, float], ...]:
    """(what, seconds) of this run first, then of other strategies where it is not short.

    What is in a cache from earlier runs is not counted off. The network is left frozen somehow and
    in eval mode; no generator is drawn from.
    """
    pace = _Pace(dataset, network, how)
    images = len(dataset.rows("train")), len(dataset.rows("val"))
    views = settle_views(options)
    own = _once(pace, images) + sum(
        _phase(pace, images, len(phase.epochs), phase.name, cache.cache, views)
        for phase, cache in zip(phases, caches, strict=True)
    )
    told = [("this run", own)]
    if own > _SOON or options.dry_run:
        for name, unfreeze in _OTHERS.items():
            cache = Cache.OFF if unfreeze == "all" else Cache.MEMORY
            seconds = _phase(pace, images, options.epochs, unfreeze, cache, 1)
            told.append((name, _once(pace, images) + seconds))
    return tuple(told)


def _once(pace: _Pace, images: tuple[int, int]) -> float:
    """Decoding all pictures to see whether they can be."""
    return sum(images) * pace.decode


def _phase(
    pace: _Pace,
    images: tuple[int, int],
    epochs: int,
    unfreeze: str,
    cache: Cache,
    views: int,
) -> float:
    train, val = images
    step = pace.step(unfreeze)
    trained = epochs * (train + val / 3) * step  # validation is a forward pass, a third of a step
    read = pace.decode + (0 if unfreeze == "all" else pace.forward)
    if cache is Cache.OFF and unfreeze != "all":
        return trained + epochs * (train + val) * read
    if cache is Cache.OFF:
        return trained + (train + val) * read
    fresh = epochs * train if not views else min(views, epochs) * train
    return trained + (fresh + val) * read
