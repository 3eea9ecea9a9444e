"""What a phase reads: the frozen layers' rows or the pictures themselves, train and validation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transferkit.cache import cache_folder
from transferkit.data.augment import Augment
from transferkit.data.pixels import PixelStore
from transferkit.data.views import PLAIN, Views
from transferkit.devices import Cache, Precision, autocast, memory_budget
from transferkit.frozen import FrozenRows
from transferkit.metrics import log_loss, top_k_accuracy
from transferkit.models.depthwise import train_depthwise_in_full_precision
from transferkit.models.phases import Phase
from transferkit.models.splitting import split
from transferkit.recipes.frozen_layers import frozen_prefix, pictures_themselves
from transferkit.recipes.settling import settle_views
from transferkit.recipes.work import Work, require_all_readable
from transferkit.training.setup import Feed, Validation


@dataclass(frozen=True)
class PixelStores:
    """Where pixels are kept that are read more than once: of plain views, and for varied ones."""

    plain: PixelStore | None = None
    varied: PixelStore | None = None


def create_stores(work: Work) -> PixelStores:
    """The stores of a run; none where it reads pictures only once."""
    options, dataset = work.options, work.dataset
    read = [
        phase
        for phase, cache in zip(work.phases, work.caches, strict=True)
        if cache.cache is Cache.OFF or not settle_views(options)
    ]
    if options.cache is Cache.OFF or sum(len(phase.epochs) for phase in read) < 2:
        return PixelStores()
    _, height, width = work.network.preprocessing.input_size
    # Half as much again on each side for the varied ones, and 4 : 3.
    train, val = (len(dataset.rows(split)) for split in ("train", "val"))
    size = 3 * height * width * (3 * train + val)
    in_memory = options.cache is Cache.MEMORY or (
        options.cache is Cache.AUTO and size <= memory_budget()
    )
    if in_memory:
        return _divided(memory_budget(), None)
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        return _divided(int(options.cache_limit * 10**9), cache_folder())
    except OSError as error:
        reason = f"cannot write {cache_folder()}: {error.strerror or error}"
        work.reporter.notice(f"{reason}; pictures are decoded in every epoch")
        return PixelStores()


def _divided(limit: int, folder: Path | None) -> PixelStores:
    # A varied view is cut from more pixels, and most pictures are for training.
    return PixelStores(PixelStore(limit // 4, folder), PixelStore(limit - limit // 4, folder))


def create_feed(work: Work, phase: Phase, per_epoch: int, stores: PixelStores) -> Feed:
    """What is trained in a phase behind what is frozen, and what it reads.

    Args:
        work: The run; its network is frozen as the phase wants it.
        phase: The phase.
        per_epoch: How many of the training pictures an epoch has.
        stores: Of the run.
    """
    options, dataset, how, network = work.options, work.dataset, work.how, work.network
    parts = split(network, phase.parameters)
    views = Views(
        files=dataset.index.files,
        names=dataset.sha256,
        preprocessing=network.preprocessing,
        augment=options.augment,
        seed=options.seed,
        batch_size=how.batch_size,
        workers=how.workers,
        allow_truncated=how.allow_truncated,
        plain_store=stores.plain,
        varied_store=stores.varied,
    )
    rows = FrozenRows(
        frozen_prefix(network, parts, how) if parts else pictures_themselves(network),
        views,
        cache=next(cache.cache for cache in work.caches if cache.phase == phase.name),
        limit=int(options.cache_limit * 10**9),
        check=lambda failures: require_all_readable(dataset, failures),
        reporter=work.reporter,
        pieces=how.pieces,
    )
    trained = parts.suffix if parts else network.module
    if how.device.type == "cpu" and how.precision is Precision.BF16:
        train_depthwise_in_full_precision(trained)
    # Where nothing is frozen only new views make sense.
    turning = phase.name != "all" or options.augment is Augment.NONE
    reading = _Reading(
        work=work,
        rows=rows,
        trained=trained,
        turns=settle_views(options) if turning else 0,
        per_epoch=per_epoch,
    )
    return Feed(reading.trained, reading.prepare, reading.batches, reading.validate)


@dataclass(frozen=True, eq=False)
class _Reading:
    work: Work
    rows: FrozenRows
    trained: Callable[[Tensor], Tensor]
    turns: int
    per_epoch: int

    def prepare(self, epoch: int) -> None:
        train, val = (self.work.dataset.rows(split) for split in ("train", "val"))
        view = self._view(epoch)
        if view == PLAIN:
            self.rows.complete(PLAIN, np.concatenate([train, val]))
            return
        self.rows.complete(PLAIN, val)
        if view is not None:
            self.rows.complete(view, train)

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        labels = torch.from_numpy(self.work.dataset.index.labels)
        seed, train = self.work.options.seed, self.work.dataset.rows("train")
        order = np.random.default_rng((seed, epoch)).permutation(train)[: self.per_epoch]
        order = order[start * self.work.how.batch_size :]
        view = self._view(epoch)
        stream = self.rows.fresh(epoch, order) if view is None else self.rows.numbered(view, order)
        for positions, values in stream:
            yield values.float(), labels[positions].to(self.work.how.device)

    @torch.no_grad()
    def validate(self) -> Validation:
        how, val = self.work.how, self.work.dataset.rows("val")
        found = []
        for _, values in self.rows.numbered(PLAIN, val):
            with autocast(how.device, how.precision):
                logits = how.pieces.compute(self.trained, values.float())
                found.append(logits.float().softmax(dim=1).cpu())
        labels, probabilities = self.work.dataset.index.labels[val], torch.cat(found).numpy()
        loss, accuracy = log_loss(labels, probabilities), top_k_accuracy(labels, probabilities)
        return Validation(loss, accuracy, probabilities)

    def _view(self, epoch: int) -> int | None:
        return (epoch - 1) % self.turns if self.turns else None
