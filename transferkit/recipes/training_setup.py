"""What takes part in training, put together from options, dataset and network."""

from collections.abc import Mapping

from transferkit.devices import create_scaler
from transferkit.recipes.feeding import create_feed, create_stores
from transferkit.recipes.settling import settle_batch_norm
from transferkit.recipes.work import Work
from transferkit.training.loss import Criterion, class_weights
from transferkit.training.optimizer import create_optimizer
from transferkit.training.schedule import Scheduler, create_schedule
from transferkit.training.setup import TrainingSetup


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
    weights = class_weights(options.class_weights, labels)
    stores = create_stores(work)
    return TrainingSetup(
        module=module,
        trained=work.phases[-1].parameters,
        device=device,
        precision=work.how.precision,
        scaler=create_scaler(device, work.how.precision),
        optimizer=optimizer,
        schedule=schedule,
        criterion=Criterion(weights, options.label_smoothing, device),
        batch_norm=settle_batch_norm(options),
        feed=lambda phase: create_feed(work, phase, per_epoch, stores),
        images_per_epoch=per_epoch,
        pieces=work.how.pieces,
    )
