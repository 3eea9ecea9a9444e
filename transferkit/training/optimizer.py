"""The optimizer: one or two parameter groups for every stage that some phase trains."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from transferkit.errors import OptionError, UnknownNameError
from transferkit.models.stages import HEAD, Stage

_OF_TORCH: Mapping[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
}
"""The optimizers timm creates for these names, without the cost of importing all of timm's."""


def create_optimizer(
    module: nn.Module,
    stages: Sequence[Stage],
    *,
    name: str,
    rates: Mapping[str, float],
    weight_decay: float,
) -> Optimizer:
    """Create one of timm's optimizers that trains each stage at its own learning rate.

    Weight decay applies to weight matrices only. Norms, biases, position embeddings, class tokens,
    layer scales and everything else the network exempts are in a second group without weight decay,
    because decay only hurts them. Every stage has its groups from the start: an optimizer skips a
    stage while it is frozen, because its parameters have no gradient.

    Args:
        module: The network's module.
        stages: Every stage that some phase trains.
        name: timm's name of the optimizer, accepted by `require_optimizer`.
        rates: Stage name -> peak learning rate.
        weight_decay: Weight decay of the weight matrices.
    """
    groups = _parameter_groups(module, stages, rates=rates, weight_decay=weight_decay)
    if name in _OF_TORCH:
        # The fused kernel reads each tensor from memory once instead of 8 times.
        return _OF_TORCH[name](groups, lr=rates[HEAD], fused=True)
    from timm.optim import create_optimizer_v2

    optimizer: Optimizer = create_optimizer_v2(groups, opt=name, lr=rates[HEAD])
    return optimizer


def require_optimizer(name: str) -> None:
    """Check that an optimizer can be used on this machine.

    Raises:
        UnknownNameError: When timm has no such optimizer.
        OptionError: When it needs a package or device that is missing here, or second derivatives,
            which the training loop does not compute.
    """
    if name in _OF_TORCH:
        return
    from timm.optim import create_optimizer_v2, list_optimizers

    known = list_optimizers()
    if name not in known:
        raise UnknownNameError("--optimizer", name, known, "try adamw, sgd or lion")
    if name == "adahessian":
        raise OptionError("--optimizer: adahessian needs second derivatives; try adamw or sgd")
    try:
        create_optimizer_v2([nn.Parameter(torch.zeros(2, 2))], opt=name, lr=1.0)
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise OptionError(
            f"--optimizer: {name} cannot be used here ({reason}); adamw and sgd always work"
        ) from error


def restart_thawed(optimizer: Any) -> None:
    """Reset the step count of groups that have not been trained yet.

    Some optimizers (Adan) count steps per group instead of per parameter. A stage that thaws late
    would otherwise start with the step count of the stages trained before it.
    """
    for group in optimizer.param_groups:
        if not any(optimizer.state.get(parameter) for parameter in group["params"]):
            group.pop("step", None)


def applied_rates(optimizer: Any) -> tuple[float, float]:
    """Return the current learning rates of (head, last backbone stage); 0 for a frozen backbone."""
    moving = [g for g in optimizer.param_groups if any(p.requires_grad for p in g["params"])]
    head = [group["lr"] for group in moving if group["stage"] == HEAD]
    backbone = [group["lr"] for group in moving if group["stage"] != HEAD]
    return head[-1], backbone[-1] if backbone else 0.0


def stage_rates(optimizer: Any) -> dict[str, float]:
    """Return the current learning rate of every stage that is trained, stem first."""
    return {
        group["stage"]: group["lr"]
        for group in optimizer.param_groups
        if any(parameter.requires_grad for parameter in group["params"])
    }


def _parameter_groups(
    module: nn.Module,
    stages: Sequence[Stage],
    *,
    rates: Mapping[str, float],
    weight_decay: float,
) -> list[dict[str, Any]]:
    parameters = dict(module.named_parameters())
    exempt = _exempt(module)
    groups: list[dict[str, Any]] = []
    for stage in stages:
        decayed = [
            name
            for name in stage.parameters
            if parameters[name].ndim > 1 and name.endswith("weight") and name not in exempt
        ]
        plain = [name for name in stage.parameters if name not in set(decayed)]
        for names, decay in ((decayed, weight_decay), (plain, 0.0)):
            if names:
                groups.append(
                    {
                        "params": [parameters[name] for name in names],
                        "lr": rates[stage.name],
                        "weight_decay": decay,
                        "stage": stage.name,
                    }
                )
    return groups


def _exempt(module: nn.Module) -> set[str]:
    no_weight_decay: Any = getattr(module, "no_weight_decay", None)
    names: Iterable[str] = no_weight_decay() if callable(no_weight_decay) else ()
    return set(names)
