"""Optimizers that are made without timm are the ones that timm would make."""

import pytest
from timm.optim import create_optimizer_v2
from torch import nn

from transferkit.models.stages import HEAD, Stage
from transferkit.training.optimizer import create_optimizer


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_create_optimizer__of_torch_is_timms(name):
    """The same class and settings; timm's lack only the fused kernel."""
    module = nn.Linear(4, 3)
    stages = [Stage(HEAD, ("weight", "bias"), ("",))]
    ours = create_optimizer(module, stages, name=name, rates={HEAD: 0.1}, weight_decay=0.5)
    groups = [
        {"params": [module.weight], "lr": 0.1, "weight_decay": 0.5, "stage": HEAD},
        {"params": [module.bias], "lr": 0.1, "weight_decay": 0.0, "stage": HEAD},
    ]
    timms = create_optimizer_v2(groups, opt=name, lr=0.1, fused=True)

    assert type(ours) is type(timms)
    assert type(ours).__module__.startswith("torch.optim")
    assert len(ours.param_groups) == len(timms.param_groups) == 2
    for own, other in zip(ours.param_groups, timms.param_groups, strict=True):
        assert own.keys() == other.keys()
        assert all(own[key] == other[key] for key in own if key != "params")
        assert [id(p) for p in own["params"]] == [id(p) for p in other["params"]]
