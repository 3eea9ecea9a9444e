"""`--unfreeze`: which parameters of the backbone are trained besides the head.

To add a form, add a function that chooses the parameters and a row to `_FORMS`. Importing this
module does not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from transferkit.errors import OptionError

if TYPE_CHECKING:
    from torch import nn

    from transferkit.models.network import Network
    from transferkit.models.stages import Stage


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


def _narrowed(backbone: Sequence[Stage], is_trained: Callable[[str], bool]) -> list[Stage]:
    """Return the stages narrowed to the parameters that are trained, without empty stages."""
    narrowed = (
        replace(stage, parameters=tuple(filter(is_trained, stage.parameters))) for stage in backbone
    )
    return [stage for stage in narrowed if stage.parameters]


def _names(stages: Sequence[Stage]) -> str:
    return ", ".join(stage.name for stage in stages)
