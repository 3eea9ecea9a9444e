"""One training step: compute the gradients of a batch, clip them, update the parameters."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from transferkit.devices import autocast
from transferkit.processes import noticing_others
from transferkit.training.randomness import seed_step
from transferkit.training.setup import Batch, TrainingSetup

_MAX_GRADIENT_NORM = 1.0


def training_step(
    setup: TrainingSetup, trained: Callable[[Tensor], Tensor], batch: Batch
) -> tuple[Tensor, Tensor]:
    """Take one training step on a batch.

    Args:
        setup: Module, optimizer, schedule and loss.
        trained: The trained layers, inputs to logits.
        batch: The batch.

    Returns:
        The part of the batch's mean loss that its own images make, a scalar, and their logits
        (b, C), both detached.
    """

    def attempt(size: int) -> tuple[Tensor, Tensor]:
        seed_step(setup.seed, setup.schedule.done, setup.processes.number, setup.device)
        return _add_gradients(setup, trained, batch, size)

    count = len(batch.inputs)
    if setup.processes.are_several:
        with noticing_others():
            loss, logits = setup.micro_batches.run_whole(count, attempt)
    else:
        loss, logits = setup.micro_batches.run(count, attempt, setup.optimizer.zero_grad)
    setup.scaler.unscale_(setup.optimizer)
    trainable = [p for p in setup.module.parameters() if p.requires_grad]
    nn.utils.clip_grad_norm_(trainable, max_norm=_MAX_GRADIENT_NORM)
    setup.scaler.step(setup.optimizer)
    setup.scaler.update()
    setup.schedule.step()
    setup.optimizer.zero_grad()
    return loss, logits


def _add_gradients(
    setup: TrainingSetup, trained: Callable[[Tensor], Tensor], batch: Batch, size: int
) -> tuple[Tensor, Tensor]:
    """Accumulate the gradients of a batch's loss in micro-batches of up to `size` images."""
    losses, outputs = [], []
    parts = zip(torch.split(batch.inputs, size), torch.split(batch.labels, size), strict=True)
    for inputs, labels in parts:
        with autocast(setup.device, setup.precision):
            logits = trained(inputs).float()
        loss = _part_of_loss(setup, logits, labels, batch.all_labels)
        # The exchange of gradients takes their mean over the processes, and the sum is needed.
        setup.scaler.scale(loss * setup.processes.count).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
        outputs.append(logits.detach()[: len(labels)])
    if len(losses) == 1:
        return losses[0], outputs[0]
    return torch.stack(losses).sum(), torch.cat(outputs)


def _part_of_loss(setup: TrainingSetup, logits: Tensor, labels: Tensor, of: Tensor) -> Tensor:
    """Return the part that some images make of the mean loss of a whole batch."""
    if not len(labels):
        return 0.0 * logits.sum()
    loss = setup.criterion(logits, labels)
    return loss if len(labels) == len(of) else loss * setup.criterion.share(labels, of)
