"""Assemble the training setup of a run, and the data that each phase reads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from transferkit.data.bad_images import require_all_readable
from transferkit.data.pixels import PixelStore
from transferkit.data.views import PLAIN, Views
from transferkit.device_copies import batch_memory, to_device
from transferkit.devices import Cache, autocast, create_scaler, memory_budget
from transferkit.frozen_layers import FrozenRows, empty_prefix, frozen_prefix
from transferkit.metrics import log_loss, top_k_accuracy
from transferkit.models.depthwise import train_depthwise_in_full_precision
from transferkit.models.freezing import BatchNorm
from transferkit.models.strategies import Phase
from transferkit.processes import noticing_others
from transferkit.recipes.finetuning.run_in_progress import TrainingRun
from transferkit.row_cache import cache_folder
from transferkit.training.compilation import compiled
from transferkit.training.loss import Criterion, class_weights
from transferkit.training.optimizer import create_optimizer
from transferkit.training.schedule import Scheduler, create_schedule
from transferkit.training.setup import Batch, PhaseData, TrainingSetup, Validation


def create_setup(run: TrainingRun, scheduler: Scheduler) -> TrainingSetup:
    """Return the training setup of a run.

    Args:
        run: The run.
        scheduler: How the learning rates change.
    """
    options, settings, compute = run.options, run.settings, run.compute
    labels = run.dataset.index.labels[run.dataset.rows("train")]
    per_epoch = _images_per_epoch(run)
    optimizer = create_optimizer(
        run.network.module,
        settings.last_phase.trainable,
        name=options.optimizer,
        rates=settings.learning_rates,
        weight_decay=options.weight_decay,
    )
    steps = options.epochs * -(-per_epoch // compute.batch_size)
    weights = class_weights(options.class_weights, labels)
    stores = _create_stores(run)
    return TrainingSetup(
        module=run.network.module,
        trained=settings.last_phase.parameters,
        device=compute.device,
        precision=compute.precision,
        scaler=create_scaler(compute.device, compute.precision),
        optimizer=optimizer,
        schedule=create_schedule(optimizer, scheduler, steps=steps),
        criterion=Criterion(weights, options.label_smoothing, compute.device),
        batch_norm=settings.batch_norm,
        data_of=lambda phase: _phase_data(run, phase, per_epoch, stores),
        images_per_epoch=per_epoch,
        seed=options.seed,
        micro_batches=compute.micro_batches,
        processes=run.processes,
    )


def _images_per_epoch(run: TrainingRun) -> int:
    """Return how many training images an epoch reads, different ones every time.

    BatchNorm cannot train on one image, nor with processes that have none. An epoch leaves out the
    images of a last batch that has too few.
    """
    count, size = len(run.dataset.rows("train")), run.compute.batch_size
    last, fewest = count % size, 2
    if run.settings.batch_norm is BatchNorm.TRAIN:
        fewest = max(fewest, run.processes.count)
    return count - last if last < min(fewest, count) else count


@dataclass(frozen=True)
class _PixelStores:
    """Caches of pixels: of the plain views, and of the images that varied views are made from."""

    plain: PixelStore | None = None
    varied: PixelStore | None = None


def _create_stores(run: TrainingRun) -> _PixelStores:
    """Return the stores of a run; none if it decodes each image only once."""
    match run.settings.pixel_cache:
        case Cache.OFF:
            return _PixelStores()
        case Cache.MEMORY:
            return _divided(memory_budget(), None)
        case _:
            try:
                cache_folder().mkdir(parents=True, exist_ok=True)
                limit = run.settings.cache_limit // run.processes.count_here
                return _divided(limit, cache_folder())
            except OSError as error:
                reason = f"cannot write {cache_folder()}: {error.strerror or error}"
                run.reporter.notice(f"{reason}; images are decoded in every epoch")
                return _PixelStores()


def _divided(limit: int, folder: Path | None) -> _PixelStores:
    # Varied views are cut from larger images, and most images are for training.
    return _PixelStores(PixelStore(limit // 4, folder), PixelStore(limit - limit // 4, folder))


def _phase_data(run: TrainingRun, phase: Phase, per_epoch: int, stores: _PixelStores) -> PhaseData:
    """Return the layers that a phase trains, and the data that they read.

    Args:
        run: The run; its network is already frozen for the phase.
        phase: The phase.
        per_epoch: Number of training images in an epoch.
        stores: The caches of pixels of the run.
    """
    dataset, compute, network = run.dataset, run.compute, run.network
    entry = run.settings.of(phase)
    views = Views(
        files=dataset.index.files,
        names=dataset.sha256,
        preprocessing=network.preprocessing,
        augment=run.options.augment,
        seed=run.options.seed,
        batch_size=compute.batch_size,
        workers=compute.workers,
        allow_truncated=compute.allow_truncated,
        plain_store=stores.plain,
        varied_store=stores.varied,
        allocate=batch_memory(compute.device),
    )
    rows = FrozenRows(
        frozen_prefix(network, entry.cut, replace(compute, engine=entry.engine))
        if entry.cut
        else empty_prefix(network),
        views,
        cache=entry.cache.place,
        limit=run.settings.cache_limit,
        check=lambda failures: require_all_readable(dataset, failures),
        reporter=run.reporter,
        processes=run.processes,
    )
    layers = entry.cut.suffix if entry.cut else network.module
    train_depthwise_in_full_precision(layers, compute.device, compute.precision)
    reading = _Reading(run, rows, layers, entry.views, per_epoch)
    trained = _exchanging(run, layers) if run.processes.are_several else layers
    computed = compiled(trained) if run.options.compile else trained
    return PhaseData(computed, reading.prepare, reading.batches, reading.validate)


def _exchanging(run: TrainingRun, layers: nn.Module) -> nn.Module:
    from transferkit.training.data_parallel import exchanging

    with noticing_others():
        return exchanging(layers, run.compute.device, run.settings.batch_norm)


@dataclass(frozen=True, eq=False)
class _Reading:
    """The data that a phase reads, epoch by epoch.

    Attributes:
        run: The run.
        rows: The output of the frozen layers.
        layers: The layers after them.
        views: Number of views of an image that take turns; 0 draws a new one every epoch.
        per_epoch: Number of training images in an epoch.
    """

    run: TrainingRun
    rows: FrozenRows
    layers: Callable[[Tensor], Tensor]
    views: int
    per_epoch: int

    def prepare(self, epoch: int) -> None:
        """Compute the rows that an epoch reads and that are not cached yet."""
        train, val = (self.run.dataset.rows(part) for part in ("train", "val"))
        view = self._view(epoch)
        if view == PLAIN:
            self.rows.complete(PLAIN, np.concatenate([train, val]))
            return
        self.rows.complete(PLAIN, val)
        if view is not None:
            self.rows.complete(view, train)

    def batches(self, epoch: int, skip: int) -> Iterator[Batch]:
        """Yield this process's part of the batches of an epoch after its first `skip`."""
        device, processes = self.run.compute.device, self.run.processes
        labels = torch.from_numpy(self.run.dataset.index.labels)
        batches = self._orders(epoch)[skip:]
        if not batches:
            return
        # A process without an image in the last batch takes part with one that does not count.
        read = [share if len(share := processes.share(b)) else b[:1] for b in batches]
        order, size, view = np.concatenate(read), len(read[0]), self._view(epoch)
        stream = (
            self.rows.fresh(epoch, order, size)
            if view is None
            else self.rows.numbered(view, order, size)
        )
        for batch, (_, values) in zip(batches, stream, strict=True):
            every = to_device(labels[batch], device)
            own = processes.share(every)
            yield Batch(values.float(), own, every)

    def _orders(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the positions of the images in each batch of an epoch, whatever the processes."""
        seed, train = self.run.options.seed, self.run.dataset.rows("train")
        order = np.random.default_rng((seed, epoch)).permutation(train)[: self.per_epoch]
        size = self.run.compute.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]

    @torch.no_grad()
    def validate(self) -> Validation:
        """Evaluate the network on the validation images."""
        compute, val = self.run.compute, self.run.dataset.rows("val")
        labels = self.run.dataset.index.labels[val]
        found = [torch.empty(0, len(self.run.dataset.index.class_names), device=compute.device)]
        for _, values in self.rows.numbered(PLAIN, self.run.processes.share(val)):
            with autocast(compute.device, compute.precision):
                logits = compute.micro_batches.compute(self.layers, values.float())
                found.append(logits.float().softmax(dim=1))
        # Read once, because reading waits for the device.
        probabilities = self.run.processes.gather_rows(torch.cat(found).cpu().numpy())
        loss, accuracy = log_loss(labels, probabilities), top_k_accuracy(labels, probabilities)
        return Validation(loss, accuracy, probabilities)

    def _view(self, epoch: int) -> int | None:
        return (epoch - 1) % self.views if self.views else None
