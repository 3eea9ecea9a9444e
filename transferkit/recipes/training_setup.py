"""What takes part in training, put together from options, dataset and network."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from transferkit.data.dataset import Dataset
from transferkit.data.loader import iterate_batches
from transferkit.data.transforms import normalize, train_transform
from transferkit.devices import create_accelerator
from transferkit.errors import DataError, name_some
from transferkit.inference import Collected, Pass, collect, probabilities
from transferkit.metrics import log_loss, top_k_accuracy
from transferkit.models.network import Network
from transferkit.models.phases import Phase
from transferkit.recipes.finetune_options import FinetuneOptions
from transferkit.recipes.plan import settle_batch_norm
from transferkit.reporting import Reporter
from transferkit.training.loop import TrainingSetup
from transferkit.training.loss import class_weights, create_criterion
from transferkit.training.optimizer import create_optimizer
from transferkit.training.schedule import Scheduler, create_schedule


@dataclass(frozen=True)
class Work:
    """What the steps of a run share."""

    options: FinetuneOptions
    dataset: Dataset
    network: Network
    phases: Sequence[Phase]
    how: Pass
    reporter: Reporter


def create_setup(work: Work, rates: Mapping[str, float], scheduler: Scheduler) -> TrainingSetup:
    """Everything that takes part in an epoch.

    Args:
        work: The run.
        rates: Name of a stage to its peak learning rate.
        scheduler: How the rates move.
    """
    options, module, device = work.options, work.network.module, work.how.device
    labels = work.dataset.index.labels[work.dataset.rows("train")]
    # BatchNorm cannot train on one picture: when just one is left over, another one each epoch
    # sits that epoch out.
    per_epoch = len(labels) - (len(labels) % options.batch_size == 1 and len(labels) > 1)
    optimizer = create_optimizer(
        module,
        work.phases[-1].trainable,
        name=options.optimizer,
        rates=rates,
        weight_decay=options.weight_decay,
    )
    steps = options.epochs * -(-per_epoch // options.batch_size)
    schedule = create_schedule(optimizer, scheduler, steps=steps)
    accelerator = create_accelerator(device, work.how.precision)
    module, optimizer = accelerator.prepare(module, optimizer)
    weights = class_weights(options.class_weights, labels)
    return TrainingSetup(
        module=module,
        accelerator=accelerator,
        optimizer=optimizer,
        schedule=schedule,
        criterion=create_criterion(weights, options.label_smoothing, device),
        batch_norm=settle_batch_norm(options),
        batches=lambda epoch: _batches(work, per_epoch, epoch),
        images_per_epoch=per_epoch,
        validate=lambda: _loss_and_accuracy(work),
    )


def validation(work: Work) -> Collected:
    """Class probabilities of the validation images, in the order of the dataset.

    Raises:
        DataError: When an image can no longer be read.
    """
    rows, everything = work.dataset.rows("val"), work.dataset.index.files
    files = [everything[i] for i in rows]
    with work.reporter.progress("validating", len(files)) as progress:
        parts = probabilities(work.network, files, work.how)
        val = collect(parts, len(files), work.network.num_classes, progress.advance)
    require_all_readable(work.dataset, [(int(rows[row]), why) for row, why in val.reasons.items()])
    return val


def _batches(work: Work, per_epoch: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    options, index, how = work.options, work.dataset.index, work.how
    shuffled = np.random.default_rng((options.seed, epoch)).permutation(work.dataset.rows("train"))
    labels = torch.from_numpy(index.labels)
    for batch in iterate_batches(
        index.files,
        train_transform(work.network.preprocessing, options.augment),
        batch_size=how.batch_size,
        workers=how.workers,
        order=shuffled[:per_epoch],
        seed=(options.seed, epoch),
    ):
        require_all_readable(work.dataset, batch.failures)
        pixels = normalize(batch.pixels.to(how.device), work.network.preprocessing)
        yield pixels, labels[batch.rows].to(how.device)


def _loss_and_accuracy(work: Work) -> tuple[float, float]:
    labels = work.dataset.index.labels[work.dataset.rows("val")]
    values = validation(work).values
    return log_loss(labels, values), top_k_accuracy(labels, values)


def require_all_readable(dataset: Dataset, failures: Iterable[tuple[int, str]]) -> None:
    """Check that a pass over a checked dataset met no unreadable image.

    Args:
        dataset: The dataset; all its images were read before training.
        failures: (position in the index, reason) of those that now could not be.

    Raises:
        DataError: When there are any: they have changed under our hands.
    """
    told = [f"{dataset.index.paths[row]} ({why})" for row, why in failures]
    if told:
        raise DataError(
            f"{dataset.index.root}: images changed during the run: {name_some(told)}; "
            "leave the dataset alone while it trains, and run again"
        )
