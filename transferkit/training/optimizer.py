"""The optimizer: a group or two for every stage that is trained at some time, from the start."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from transferkit.errors import OptionError, UnknownNameError
from transferkit.models.stages import HEAD, Stage
from transferkit.startup import import_without

_FUSED = ("adam", "adamw", "sgd")
"""Those of torch that have a fused kernel for every device."""

_timm_optim: Any = import_without("timm.optim", "torch.distributed.tensor")


def create_optimizer(
    module: nn.Module,
    stages: Sequence[Stage],
    *,
    name: str,
    rates: Mapping[str, float],
    weight_decay: float,
) -> Optimizer:
    """One of timm's optimizers, with a group a stage at that stage's rate.

    Weight decay is for the weights of layers. Norms and biases, position embeddings, class tokens,
    layer scales and what else the network itself exempts are in a group of their own without it:
    decaying them only hurts. A stage that is frozen for
    now is passed over by every optimizer, since its parameters have no gradient.

    Args:
        module: The network's module.
        stages: Every stage that is trained at some time.
        name: timm's name of the optimizer, one that `require_optimizer` lets pass.
        rates: Name of a stage to its peak learning rate.
        weight_decay: Of the weight matrices.
    """
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
    # One pass over the memory of each tensor in the place of eight.
    fused = {"fused": True} if name in _FUSED else {}
    optimizer: Optimizer = _timm_optim.create_optimizer_v2(
        groups, opt=name, lr=rates[HEAD], **fused
    )
    return optimizer


def require_optimizer(name: str) -> None:
    """Check that an optimizer can be used, before any work.

    Raises:
        UnknownNameError: When timm has no such optimizer.
        OptionError: When it needs what is not here, or second derivatives, which the loop does not
            give.
    """
    known = _timm_optim.list_optimizers()
    if name not in known:
        raise UnknownNameError("--optimizer", name, known, "try adamw, sgd or lion")
    if name == "adahessian":
        raise OptionError("--optimizer: adahessian needs second derivatives; try adamw or sgd")
    try:
        _timm_optim.create_optimizer_v2([nn.Parameter(torch.zeros(2, 2))], opt=name, lr=1.0)
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise OptionError(
            f"--optimizer: {name} cannot be used here ({reason}); adamw and sgd always can"
        ) from error


def restart_thawed(optimizer: Any) -> None:
    """Let what has not been trained yet begin at its first step.

    Some optimizers (Adan) count steps by the group and not by the parameter, and would take a
    stage that thaws late for one that has long been trained.
    """
    for group in optimizer.param_groups:
        if not any(optimizer.state.get(parameter) for parameter in group["params"]):
            group.pop("step", None)


def applied_rates(optimizer: Any) -> tuple[float, float]:
    """The present (head, last backbone stage) learning rates; 0 for a frozen backbone."""
    moving = [g for g in optimizer.param_groups if any(p.requires_grad for p in g["params"])]
    head = [group["lr"] for group in moving if group["stage"] == HEAD]
    backbone = [group["lr"] for group in moving if group["stage"] != HEAD]
    return head[-1], backbone[-1] if backbone else 0.0


def _exempt(module: nn.Module) -> set[str]:
    no_weight_decay: Any = getattr(module, "no_weight_decay", None)
    names: Iterable[str] = no_weight_decay() if callable(no_weight_decay) else ()
    return set(names)
