"""One training step: compute the gradients of a batch, clip them, update the parameters."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from transferkit.devices import autocast
from transferkit.training.setup import TrainingSetup

_MAX_GRADIENT_NORM = 1.0


def training_step(
    setup: TrainingSetup, trained: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Take one training step on a batch.

    Args:
        setup: Module, optimizer, schedule and loss.
        trained: The trained layers, inputs to logits.
        inputs: (B, ...) input of the trained layers.
        labels: (B,) int64.

    Returns:
        The loss, a scalar, and the logits (B, C), both detached.
    """
    random = torch.get_rng_state()

    def undo() -> None:
        setup.optimizer.zero_grad()
        torch.set_rng_state(random)

    loss, logits = setup.micro_batches.run(
        len(labels), lambda size: _add_gradients(setup, trained, inputs, labels, size), undo
    )
    setup.scaler.unscale_(setup.optimizer)
    trainable = [p for p in setup.module.parameters() if p.requires_grad]
    nn.utils.clip_grad_norm_(trainable, max_norm=_MAX_GRADIENT_NORM)
    setup.scaler.step(setup.optimizer)
    setup.scaler.update()
    setup.schedule.step()
    setup.optimizer.zero_grad()
    return loss, logits


def _add_gradients(
    setup: TrainingSetup,
    trained: Callable[[Tensor], Tensor],
    inputs: Tensor,
    labels: Tensor,
    size: int,
) -> tuple[Tensor, Tensor]:
    """Accumulate the gradients of a batch's loss in micro-batches of up to `size` images."""
    losses, outputs = [], []
    for part, part_labels in zip(torch.split(inputs, size), torch.split(labels, size), strict=True):
        with autocast(setup.device, setup.precision):
            logits = trained(part)
        loss = setup.criterion(logits.float(), part_labels)
        if size < len(labels):
            # The loss is a mean: weigh each micro-batch by its share of the batch's weight.
            loss = loss * setup.criterion.weight(part_labels) / setup.criterion.weight(labels)
        setup.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
        outputs.append(logits.detach())
    if len(losses) == 1:
        return losses[0], outputs[0]
    return torch.stack(losses).sum(), torch.cat(outputs)
