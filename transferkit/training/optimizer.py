"""Discriminative learning rates: the optimizer's groups, one or two a stage."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import AdamW

from transferkit.models.stages import HEAD, Stage


def create_optimizer(
    module: nn.Module,
    trainable: Sequence[Stage],
    *,
    learning_rate: float,
    backbone_learning_rate: float,
    weight_decay: float,
) -> AdamW:
    """AdamW over the trainable stages, with a group a stage.

    Norms, biases and what the network itself exempts (position embeddings, class tokens) are in a
    group of their own without weight decay: decaying them only hurts.

    Args:
        module: The network's module.
        trainable: Stages that receive updates.
        learning_rate: Of the head.
        backbone_learning_rate: Of every other stage.
        weight_decay: Of the weight matrices.
    """
    parameters = dict(module.named_parameters())
    exempt = _exempt(module)
    groups: list[dict[str, Any]] = []
    for stage in trainable:
        rate = learning_rate if stage.name == HEAD else backbone_learning_rate
        decayed = [p for p in stage.parameters if parameters[p].ndim > 1 and p not in exempt]
        plain = [p for p in stage.parameters if p not in set(decayed)]
        for names, decay in ((decayed, weight_decay), (plain, 0.0)):
            if names:
                params = [parameters[name] for name in names]
                groups.append(
                    {"params": params, "lr": rate, "weight_decay": decay, "stage": stage.name}
                )
    return AdamW(groups)


def rates(optimizer: Any) -> tuple[float, float]:
    """The present (head, last backbone stage) learning rates; 0 for a frozen backbone."""
    head = [group["lr"] for group in optimizer.param_groups if group["stage"] == HEAD]
    backbone = [group["lr"] for group in optimizer.param_groups if group["stage"] != HEAD]
    return head[-1], backbone[-1] if backbone else 0.0


def _exempt(module: nn.Module) -> set[str]:
    no_weight_decay: Any = getattr(module, "no_weight_decay", None)
    names: Iterable[str] = no_weight_decay() if callable(no_weight_decay) else ()
    return set(names)
