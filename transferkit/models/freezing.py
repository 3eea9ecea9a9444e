"""What is trainable: a set of stages, named once for all architectures and then applied.

A frozen stage gets no gradient, no optimizer state and no weight decay, and stays in eval mode, so
that its BatchNorm statistics and dropout stand still. Needs no torch to be imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from transferkit.errors import OptionError

if TYPE_CHECKING:
    from torch import nn

    from transferkit.models.stages import Stage


class BatchNorm(StrEnum):
    """What normalises in the trainable stages.

    `train`: each batch's own statistics, from which the running ones are updated. `eval`: the
    pretrained running statistics, which stand still; scale and shift are trained all the same.
    `auto`: `eval` where the weights are pretrained, `train` where they are random.
    """

    AUTO = "auto"
    EVAL = "eval"
    TRAIN = "train"


_FORMS = "head, last:N, from:STAGE, re:REGEX or all"


def trainable_stages(stages: Sequence[Stage], unfreeze: str) -> tuple[Stage, ...]:
    """The stages that receive updates, in the network's order, each with its trainable part.

    Args:
        stages: Stem to last, then the head, which is always trainable.
        unfreeze: `head`; `last:N` for the N last backbone stages; `from:STAGE` for that stage and
            all after it; `re:REGEX` for the parameters in whose names the pattern is found; `all`.

    Raises:
        OptionError: When `unfreeze` is not of these forms or names nothing there is.
    """
    check_unfreeze(unfreeze)
    form, _, value = unfreeze.partition(":")
    *backbone, head = stages
    return (*_CHOOSERS[form](value, backbone), head)


def check_unfreeze(unfreeze: str) -> None:
    """Check the form of an `--unfreeze` value.

    Raises:
        OptionError: When it is none of the known forms.
    """
    if not re.fullmatch(r"head|all|last:[1-9]\d*|from:\w+|re:.+", unfreeze):
        raise OptionError(f"--unfreeze: got {unfreeze!r}, expected {_FORMS}")
    if unfreeze.startswith("re:"):
        try:
            re.compile(unfreeze.removeprefix("re:"))
        except re.error as error:
            raise OptionError(
                f"--unfreeze: got {unfreeze!r}, which is no regular expression ({error})"
            ) from error


def _last(value: str, backbone: Sequence[Stage]) -> Sequence[Stage]:
    if int(value) > len(backbone):
        raise OptionError(
            f"--unfreeze: got last:{value}, but the backbone has {len(backbone)} stages "
            f"({_names(backbone)}); expected last:1 to last:{len(backbone)}"
        )
    return backbone[-int(value) :]


def _from(value: str, backbone: Sequence[Stage]) -> Sequence[Stage]:
    names = [stage.name for stage in backbone]
    if value not in names:
        raise OptionError(
            f"--unfreeze: got from:{value}, but the backbone's stages are {_names(backbone)}"
        )
    return backbone[names.index(value) :]


def _matching(value: str, backbone: Sequence[Stage]) -> Sequence[Stage]:
    narrowed = [
        replace(stage, parameters=tuple(p for p in stage.parameters if re.search(value, p)))
        for stage in backbone
    ]
    found = [stage for stage in narrowed if stage.parameters]
    if not found:
        modules = "; ".join(f"{stage.name}: {', '.join(stage.modules[:3])}" for stage in backbone)
        raise OptionError(
            f"--unfreeze: re:{value} is found in no parameter of the backbone's stages ({modules})"
        )
    return found


def _names(stages: Sequence[Stage]) -> str:
    return ", ".join(stage.name for stage in stages)


_CHOOSERS: dict[str, Callable[[str, Sequence[Stage]], Sequence[Stage]]] = {
    "head": lambda _, __: (),
    "last": _last,
    "from": _from,
    "re": _matching,
    "all": lambda _, backbone: backbone,
}


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
