"""Strategies: which parameters are trained in which epochs.

An `Unfreeze` chooses a set of parameters, a `Strategy` arranges such sets over the epochs, and a
`Phase` is the result: consecutive epochs that train the same parameters. The phase of an epoch
follows from its number alone, so a resumed run cannot freeze again what had thawed. Importing this
module does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from transferkit.models.unfreeze import EVERYTHING, HEAD_ALONE, Unfreeze, last_stages

if TYPE_CHECKING:
    from transferkit.models.network import Network
    from transferkit.models.stages import Stage


class Strategy(StrEnum):
    """How much of the network is trained, and when.

    `partial`: the new head, and what `--unfreeze` adds to it. `full`: everything. `gradual`: the
    head first, then one more stage at a time, from the last to the stem. `features`: nothing; a
    classifier is fitted on the features.
    """

    PARTIAL = "partial"
    FULL = "full"
    GRADUAL = "gradual"
    FEATURES = "features"

    @property
    def trains_every_stage(self) -> bool:
        """Whether it trains the whole network, given enough epochs."""
        return self in (Strategy.FULL, Strategy.GRADUAL)


class HeadStart(StrEnum):
    """How the new head begins.

    `linear`: as the linear classifier that fits the pretrained features. `random`: with random
    weights.
    """

    LINEAR = "linear"
    RANDOM = "random"


STRATEGY_HELP = (
    "partial trains the head and what --unfreeze adds, full everything, gradual one more stage at "
    "a time; features fits a scikit-learn classifier and leaves the backbone unchanged."
)


@dataclass(frozen=True)
class Phase:
    """Consecutive epochs that train the same parameters.

    Attributes:
        name: The `--unfreeze` value that chooses these parameters.
        epochs: Its epoch numbers; the run's first is 1.
        trainable: Stages that receive updates, each with its trainable parameters; always the
            head.
        frozen: Names of the parameters that receive no updates.
    """

    name: str
    epochs: range
    trainable: tuple[Stage, ...]
    frozen: frozenset[str]

    @property
    def parameters(self) -> frozenset[str]:
        """Names of the parameters that receive updates."""
        return frozenset(name for stage in self.trainable for name in stage.parameters)

    @property
    def freezes_anything(self) -> bool:
        """Whether any parameter receives no updates."""
        return bool(self.frozen)

    @classmethod
    def of(cls, network: Network, unfreeze: Unfreeze, epochs: range) -> Phase:
        """Return the phase that trains what `unfreeze` chooses.

        Raises:
            OptionError: When `unfreeze` matches nothing in this network.
        """
        trainable = unfreeze.stages(network)
        trained = {name for stage in trainable for name in stage.parameters}
        frozen = {name for name, _ in network.module.named_parameters()} - trained
        return cls(str(unfreeze), epochs, trainable, frozenset(frozen))


def plan_phases(
    network: Network,
    *,
    strategy: Strategy,
    unfreeze: Unfreeze,
    epochs: int,
    freeze_epochs: int,
    thaw_every: int,
) -> tuple[Phase, ...]:
    """Return the phases of a run; each phase also trains what earlier phases trained.

    Args:
        network: The network that is trained.
        strategy: What is trained after the head-only epochs.
        unfreeze: For partial, what is trained besides the head.
        epochs: Length of the whole run; phases that would begin later are left out.
        freeze_epochs: Number of epochs at the start that train the head alone.
        thaw_every: For gradual, how many epochs each thawed stage has before the next one thaws;
            0 thaws all at once.

    Raises:
        OptionError: When `unfreeze` matches nothing in this network.
    """
    starts = _starts(len(network.stages) - 1, strategy, unfreeze, freeze_epochs, thaw_every)
    begun = [(first, chosen) for first, chosen in starts if first <= epochs]
    ends = [*(first for first, _ in begun[1:]), epochs + 1]
    return tuple(
        Phase.of(network, chosen, range(first, end))
        for (first, chosen), end in zip(begun, ends, strict=True)
    )


def _starts(
    backbone_stages: int,
    strategy: Strategy,
    unfreeze: Unfreeze,
    freeze_epochs: int,
    thaw_every: int,
) -> Iterator[tuple[int, Unfreeze]]:
    """Yield the first epoch of each phase, and what the phase trains."""
    if freeze_epochs:
        yield 1, HEAD_ALONE
    match strategy:
        case Strategy.PARTIAL:
            yield freeze_epochs + 1, unfreeze
        case Strategy.FULL:
            yield freeze_epochs + 1, EVERYTHING
        case Strategy.GRADUAL:
            first = freeze_epochs + 1
            for count in range(1, backbone_stages) if thaw_every else ():
                yield first, last_stages(count)
                first += thaw_every
            yield first, EVERYTHING
        case Strategy.FEATURES:
            return
        case _:
            assert_never(strategy)
