"""Strategies: which parameters are trained in which epochs.

`Unfreeze` chooses a set of parameters, a `Strategy` arranges such sets over the epochs, and a
`Phase` is the result: consecutive epochs that train the same parameters. The phase of an epoch
follows from its number alone, so a resumed run cannot freeze again what had thawed. Importing this
module does not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from transferkit.errors import OptionError

if TYPE_CHECKING:
    from torch import nn

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


STRATEGY_HELP = (
    "partial trains the head and what --unfreeze adds, full everything, gradual one more stage at "
    "a time; features fits a scikit-learn classifier and leaves the backbone unchanged."
)


@dataclass(frozen=True)
class _Form:
    """One form of an `--unfreeze` value.

    Attributes:
        pattern: A regular expression for the value.
        help: How --help describes it.
        choose: `choose(value, backbone, module)` returns the stages that are trained, each narrowed
            to its trained parameters; `value` is the text after the colon.
    """

    pattern: str
    help: str
    choose: Callable[[str, Sequence[Stage], nn.Module], Sequence[Stage]]


def _last(value: str, backbone: Sequence[Stage], _: nn.Module) -> Sequence[Stage]:
    if int(value) > len(backbone):
        raise OptionError(
            f"--unfreeze: got last:{value}, but the backbone has {len(backbone)} stages "
            f"({_names(backbone)}); expected last:1 to last:{len(backbone)}"
        )
    return backbone[-int(value) :]


def _from(value: str, backbone: Sequence[Stage], _: nn.Module) -> Sequence[Stage]:
    names = [stage.name for stage in backbone]
    if value not in names:
        raise OptionError(
            f"--unfreeze: got from:{value}, but the backbone's stages are {_names(backbone)}"
        )
    return backbone[names.index(value) :]


def _matching(value: str, backbone: Sequence[Stage], _: nn.Module) -> Sequence[Stage]:
    found = _narrowed(backbone, lambda name: re.search(value, name) is not None)
    if not found:
        modules = "; ".join(f"{stage.name}: {', '.join(stage.modules[:3])}" for stage in backbone)
        raise OptionError(
            f"--unfreeze: re:{value} matches no parameter of the backbone's stages ({modules})"
        )
    return found


def _norms(_: str, backbone: Sequence[Stage], module: nn.Module) -> Sequence[Stage]:
    """Choose scales and shifts of normalisation layers, like BitFit's biases (Zaken, 2022)."""
    parameters = {
        f"{owner}.{name}"
        for owner, layer in module.named_modules()
        if "norm" in type(layer).__name__.lower()
        for name, parameter in layer.named_parameters(recurse=False)
        if parameter.ndim == 1
    }
    found = _narrowed(backbone, parameters.__contains__)
    if not found:
        raise OptionError(
            "--unfreeze: got norms, but the backbone has no normalisation layers with parameters; "
            "train its last stages with last:N"
        )
    return found


_FORMS = {
    "head": _Form("head", "head (nothing else)", lambda *_: ()),
    "last": _Form(r"last:[1-9]\d*", "last:N (the last N stages)", _last),
    "from": _Form(r"from:\w+", "from:STAGE (that stage and all after it)", _from),
    "re": _Form("re:.+", "re:REGEX (parameters whose names match)", _matching),
    "norms": _Form("norms", "norms (all normalisation layers)", _norms),
    "all": _Form("all", "all", lambda _, backbone, __: backbone),
}

_HELPS = [form.help for form in _FORMS.values()]
_EXPECTED = f"{', '.join(_HELPS[:-1])} or {_HELPS[-1]}"
UNFREEZE_HELP = f"For partial, what is trained besides the head: {_EXPECTED}."


@dataclass(frozen=True)
class Unfreeze:
    """Which parameters of the backbone are trained; the head always is.

    Attributes:
        value: The text that `--unfreeze` takes.

    Raises:
        OptionError: When the value has none of the known forms.
    """

    value: str

    def __post_init__(self) -> None:
        if not any(re.fullmatch(form.pattern, self.value) for form in _FORMS.values()):
            raise OptionError(f"--unfreeze: got {self.value!r}, expected {_EXPECTED}")
        form, _, pattern = self.value.partition(":")
        try:
            re.compile(pattern if form == "re" else "")
        except re.error as error:
            raise OptionError(
                f"--unfreeze: got {self.value!r}, which is not a regular expression ({error})"
            ) from error

    def __str__(self) -> str:
        return self.value

    def stages(self, network: Network) -> tuple[Stage, ...]:
        """Return the trained stages in the network's order, each with its trained parameters.

        Raises:
            OptionError: When the value matches nothing in this network.
        """
        form, _, value = self.value.partition(":")
        *backbone, head = network.stages
        return (*_FORMS[form].choose(value, backbone, network.module), head)


HEAD_ALONE, EVERYTHING = Unfreeze("head"), Unfreeze("all")


def last_stages(count: int) -> Unfreeze:
    """Train the last `count` stages of the backbone."""
    return Unfreeze(f"last:{count}")


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


def _narrowed(backbone: Sequence[Stage], is_trained: Callable[[str], bool]) -> list[Stage]:
    """Return the stages narrowed to the parameters that are trained, without empty stages."""
    narrowed = (
        replace(stage, parameters=tuple(filter(is_trained, stage.parameters))) for stage in backbone
    )
    return [stage for stage in narrowed if stage.parameters]


def _names(stages: Sequence[Stage]) -> str:
    return ", ".join(stage.name for stage in stages)
