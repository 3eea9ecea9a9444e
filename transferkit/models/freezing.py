"""Apply what is trainable to a network, and name all that must then stay as it is.

A frozen stage gets no gradient, no optimizer state and no weight decay, and stays in eval mode, so
that its BatchNorm statistics and dropout stand still. Needs no torch to be imported.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


class BatchNorm(StrEnum):
    """What normalises in the trainable stages.

    `train`: each batch's own statistics, from which the running ones are updated. `eval`: the
    pretrained running statistics, which stand still; scale and shift are trained all the same.
    `auto`: `eval` where the weights are pretrained, `train` where they are random.
    """

    AUTO = "auto"
    EVAL = "eval"
    TRAIN = "train"


def freeze(module: nn.Module, trainable: Collection[str]) -> None:
    """Let only the parameters named in `trainable` require gradients."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in trainable)


def train_mode(module: nn.Module, batch_norm: BatchNorm = BatchNorm.TRAIN) -> None:
    """Put the trainable parts in train mode and leave all else in eval mode.

    A module trains when it holds parameters and all of them are trainable: so a frozen stage's
    BatchNorm uses its stored statistics and its dropout does nothing, whatever lies around it.

    Args:
        module: The network's module, its frozen parameters without gradient.
        batch_norm: With `eval`, whatever keeps running statistics stays in eval mode everywhere.
    """
    module.eval()
    for child in module.modules():
        parameters = list(child.parameters())
        if parameters and all(parameter.requires_grad for parameter in parameters):
            child.train()
    if batch_norm is BatchNorm.EVAL:
        for child in filter(_keeps_statistics, module.modules()):
            # Not eval(), which would reach the dropout that timm's norms may hold.
            child.training = False


def _keeps_statistics(module: nn.Module) -> bool:
    return any(name.startswith("running_") for name, _ in module.named_buffers(recurse=False))


def frozen_names(
    module: nn.Module, trainable: Collection[str], batch_norm: BatchNorm
) -> tuple[str, ...]:
    """Names of everything in the module's state that training must leave as it is.

    They follow from the plan alone, not from the modes and flags that are set to carry it out.

    Args:
        module: The network's module.
        trainable: Names of the parameters that receive updates.
        batch_norm: What normalises in the trainable stages.

    Returns:
        The other parameters, and the buffers (BatchNorm's statistics among them) of all modules
        but those whose parameters are trainable; with `eval` all running statistics.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    frozen, trained = set(names.values()) - set(trainable), set()
    for owner, child in module.named_modules():
        inside = {names[id(parameter)] for parameter in child.parameters()}
        # Layers without parameters, such as dropout, go with what they are in.
        if inside <= set(trainable) if inside else owner.rpartition(".")[0] in trained:
            trained.add(owner)
        held = batch_norm is BatchNorm.EVAL and _keeps_statistics(child)
        if owner not in trained or held:
            prefix = f"{owner}." if owner else ""
            frozen |= {f"{prefix}{name}" for name, _ in child.named_buffers(recurse=False)}
    return tuple(name for name in module.state_dict() if name in frozen)
