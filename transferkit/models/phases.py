"""When what is trained: a strategy is a sequence of phases, each with its trainable stages.

The phase of an epoch follows from its number alone, so a run that is interrupted and goes on
cannot freeze again what had thawed. Needs no torch to be imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, assert_never

from transferkit.models.freezing import trainable_stages

if TYPE_CHECKING:
    from transferkit.models.stages import Stage


class Strategy(StrEnum):
    """How much of the network is trained, and when.

    `partial`: the new head, or the last stages with it (see --unfreeze). `full`: everything.
    `gradual`: the head first, then one stage more at a time, from the last to the stem.
    `features`: nothing; a classifier is fitted on what the network puts out.
    """

    PARTIAL = "partial"
    FULL = "full"
    GRADUAL = "gradual"
    FEATURES = "features"


@dataclass(frozen=True)
class Phase:
    """Consecutive epochs with the same trainable stages.

    Attributes:
        name: The `--unfreeze` value that chooses these stages.
        epochs: Numbers of its epochs, the run's first being 1.
        trainable: Stages that receive updates, each with its trainable part; always the head.
    """

    name: str
    epochs: range
    trainable: tuple[Stage, ...]

    @property
    def parameters(self) -> frozenset[str]:
        """Names of the parameters that receive updates."""
        return frozenset(name for stage in self.trainable for name in stage.parameters)


def plan_phases(
    stages: Sequence[Stage],
    *,
    strategy: Strategy,
    unfreeze: str,
    epochs: int,
    freeze_epochs: int,
    thaw_every: int,
) -> tuple[Phase, ...]:
    """The phases of a run; what a phase trains, all later ones train too.

    Args:
        stages: Stem to last, then the head.
        strategy: What is trained after the head-only epochs.
        unfreeze: For partial, what `trainable_stages` takes.
        epochs: Of the whole run. Phases that would begin later are left out.
        freeze_epochs: How many epochs train the head alone at first.
        thaw_every: For gradual, how many epochs each thawed stage has before the next one thaws;
            0 thaws all at once.

    Raises:
        OptionError: When `unfreeze` names nothing there is.
    """
    starts = list(_starts(len(stages) - 1, strategy, unfreeze, freeze_epochs, thaw_every))
    begun = [(first, name) for first, name in starts if first <= epochs]
    return tuple(
        Phase(name, range(first, following), trainable_stages(stages, name))
        for (first, name), (following, _) in pairwise([*begun, (epochs + 1, "")])
    )


def _starts(
    backbone_stages: int, strategy: Strategy, unfreeze: str, freeze_epochs: int, thaw_every: int
) -> Iterator[tuple[int, str]]:
    """(first epoch, name) of every phase."""
    if freeze_epochs:
        yield 1, "head"
    match strategy:
        case Strategy.PARTIAL:
            yield freeze_epochs + 1, unfreeze
        case Strategy.FULL:
            yield freeze_epochs + 1, "all"
        case Strategy.GRADUAL:
            first = freeze_epochs + 1
            for count in range(1, backbone_stages) if thaw_every else ():
                yield first, f"last:{count}"
                first += thaw_every
            yield first, "all"
        case Strategy.FEATURES:
            return
        case _:
            assert_never(strategy)
