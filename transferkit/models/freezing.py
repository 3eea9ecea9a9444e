"""What is trainable: a set of stages, computed from the strategy and then applied.

A frozen stage gets no gradient and no optimizer state, and stays in eval mode, so that its
BatchNorm statistics and dropout stand still. Needs no torch to be imported.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from transferkit.errors import OptionError

if TYPE_CHECKING:
    from torch import nn

    from transferkit.models.stages import Stage


class Strategy(StrEnum):
    """Which part of the network is trained.

    `partial`: the new head, or the last stages with it (see --unfreeze). `full`: everything.
    """

    PARTIAL = "partial"
    FULL = "full"


def trainable_stages(
    stages: Sequence[Stage], *, strategy: Strategy, unfreeze: str
) -> tuple[Stage, ...]:
    """The stages that receive updates, in the network's order.

    Args:
        stages: Stem to last, then the head.
        strategy: Partial or full.
        unfreeze: For partial: `head`, or `last:N` for the N last backbone stages with the head.

    Raises:
        OptionError: When `unfreeze` is not of that form, or asks for more stages than there are.
    """
    match strategy:
        case Strategy.FULL:
            return tuple(stages)
        case Strategy.PARTIAL:
            return tuple(stages[-1 - _count(unfreeze, stages) :])
        case _:
            assert_never(strategy)


def check_unfreeze(unfreeze: str) -> None:
    """Check the form of an `--unfreeze` value.

    Raises:
        OptionError: When it is neither `head` nor `last:N`.
    """
    if unfreeze != "head" and not re.fullmatch(r"last:[1-9]\d*", unfreeze):
        raise OptionError(f"--unfreeze: got {unfreeze!r}, expected head or last:N, such as last:1")


def _count(unfreeze: str, stages: Sequence[Stage]) -> int:
    check_unfreeze(unfreeze)
    if unfreeze == "head":
        return 0
    count = int(unfreeze.removeprefix("last:"))
    backbone = [stage.name for stage in stages[:-1]]
    if count > len(backbone):
        raise OptionError(
            f"--unfreeze: got {unfreeze}, but the backbone has {len(backbone)} stages "
            f"({', '.join(backbone)}); expected last:1 to last:{len(backbone)}"
        )
    return count


def freeze(module: nn.Module, trainable: Collection[str]) -> None:
    """Let only the parameters named in `trainable` require gradients."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in trainable)


def train_mode(module: nn.Module) -> None:
    """Put the trainable parts in train mode and leave all else in eval mode.

    A module trains when it holds parameters and all of them are trainable: so a frozen stage's
    BatchNorm uses its stored statistics and its dropout does nothing, whatever lies around it.
    """
    module.eval()
    for child in module.modules():
        parameters = list(child.parameters())
        if parameters and all(parameter.requires_grad for parameter in parameters):
            child.train()
