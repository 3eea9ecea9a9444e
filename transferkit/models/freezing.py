"""Freeze the parameters of a network that are not trained, and name all that must not change.

A frozen stage gets no gradient, no optimizer state and no weight decay. It stays in eval mode, so
its BatchNorm statistics do not change and its dropout is off. Importing this module does not import
torch.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


class BatchNorm(StrEnum):
    """Which statistics BatchNorm uses in the trainable stages.

    `train`: those of each batch, from which the running statistics are updated. `eval`: the
    pretrained running statistics, which do not change; scale and shift are still trained. `auto`:
    `eval` where the weights are pretrained, `train` where they are random.
    """

    AUTO = "auto"
    EVAL = "eval"
    TRAIN = "train"


def freeze(module: nn.Module, trainable: Collection[str]) -> None:
    """Let only the parameters named in `trainable` require gradients."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in trainable)


def train_mode(module: nn.Module, batch_norm: BatchNorm = BatchNorm.TRAIN) -> None:
    """Put the trainable modules in train mode and all others in eval mode.

    A module is trainable when it has parameters and all of them require gradients. A frozen stage's
    BatchNorm therefore uses its stored statistics and its dropout is off, whatever contains it.

    Args:
        module: The network's module, after `freeze`.
        batch_norm: With `eval`, every layer that keeps running statistics stays in eval mode.
    """
    module.eval()
    for child in module.modules():
        parameters = list(child.parameters())
        if parameters and all(parameter.requires_grad for parameter in parameters):
            child.train()
    if batch_norm is BatchNorm.EVAL:
        for child in filter(_keeps_statistics, module.modules()):
            # Not eval(), which would also turn off the dropout that timm's norms may contain.
            child.training = False


def _keeps_statistics(module: nn.Module) -> bool:
    return any(name.startswith("running_") for name, _ in module.named_buffers(recurse=False))


def frozen_names(
    module: nn.Module, trainable: Collection[str], batch_norm: BatchNorm
) -> tuple[str, ...]:
    """Return the names of everything in the module's state that training must not change.

    They follow from the arguments alone, not from the modes and flags that `freeze` and
    `train_mode` set.

    Args:
        module: The network's module.
        trainable: Names of the parameters that receive updates.
        batch_norm: Which statistics BatchNorm uses in the trainable stages.

    Returns:
        The other parameters, and the buffers (including BatchNorm's statistics) of all modules but
        those whose parameters are trainable; with `eval` also all running statistics.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    frozen, trained = set(names.values()) - set(trainable), set()
    for owner, child in module.named_modules():
        inside = {names[id(parameter)] for parameter in child.parameters()}
        # Layers without parameters, such as dropout, count as part of the module they are in.
        if inside <= set(trainable) if inside else owner.rpartition(".")[0] in trained:
            trained.add(owner)
        held = batch_norm is BatchNorm.EVAL and _keeps_statistics(child)
        if owner not in trained or held:
            prefix = f"{owner}." if owner else ""
            frozen |= {f"{prefix}{name}" for name, _ in child.named_buffers(recurse=False)}
    return tuple(name for name in module.state_dict() if name in frozen)
