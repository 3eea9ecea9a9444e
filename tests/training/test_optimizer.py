"""Optimizers: equal to timm's, with a group per stage, and without effect on frozen stages."""

import pytest
import torch
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn

from transferkit.errors import OptionError, UnknownNameError
from transferkit.models.create_network import create_network
from transferkit.models.freezing import freeze
from transferkit.models.stages import HEAD, Stage
from transferkit.training.optimizer import (
    applied_rates,
    create_optimizer,
    require_optimizer,
    restart_thawed,
)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_create_optimizer__of_torch_equals_timms(name):
    """Compare class and settings with those of timm."""
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


def network_of(name="test_resnet"):
    torch.manual_seed(0)
    return create_network(name, weights="none", num_classes=3)


def optimizer_of(network, name="adamw", stages=None):
    stages = stages or network.stages
    rates = {stage.name: 1.0 if stage.name == HEAD else 0.1 for stage in network.stages}
    return create_optimizer(network.module, stages, name=name, rates=rates, weight_decay=0.5)


def test_create_optimizer__has_groups_per_stage_and_decays_no_norms_or_biases():
    network = network_of()
    optimizer = optimizer_of(network, stages=network.stages[-2:])

    groups = [(g["stage"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert groups == [
        ("stage4", 0.1, 0.5),
        ("stage4", 0.1, 0.0),
        ("head", 1.0, 0.5),
        ("head", 1.0, 0),
    ]
    for group in optimizer.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}
    held = sum(p.numel() for g in optimizer.param_groups for p in g["params"])
    assert held == sum(
        network.module.get_parameter(name).numel()
        for stage in network.stages[-2:]
        for name in stage.parameters
    )


def test_create_optimizer__decays_nothing_that_the_network_exempts():
    network = network_of("test_vit")
    optimizer = optimizer_of(network)

    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert id(network.module.pos_embed) not in decayed
    assert id(network.module.blocks[0].attn.qkv.weight) in decayed


def test_applied_rates__are_zero_for_what_is_frozen():
    network = network_of()
    optimizer = optimizer_of(network)

    assert applied_rates(optimizer) == (1.0, 0.1)
    freeze(network.module, set(network.stages[-1].parameters))
    assert applied_rates(optimizer) == (1.0, 0.0)


def test_require_optimizer__refuses_an_unknown_name():
    with pytest.raises(UnknownNameError, match="unknown --optimizer 'adamww'; did you mean adamw"):
        require_optimizer("adamww")


@pytest.mark.parametrize("name", ["adahessian", "bnbadam", "fusedsgd"])
def test_require_optimizer__refuses_what_it_cannot_use(name):
    with pytest.raises(OptionError, match=f"--optimizer: {name} .*adamw"):
        require_optimizer(name)


@pytest.mark.filterwarnings("ignore:It is highly recommended to have 'opt_einsum'")
@pytest.mark.parametrize("name", list_optimizers(exclude_filters=["bnb*", "fused*", "adahessian"]))
def test_create_optimizer__any_of_timms_leaves_frozen_stages_unchanged(name):
    """A frozen group has no gradient, so it gets no update, no weight decay and no state."""
    torch.manual_seed(0)
    body, head = nn.Linear(4, 4), nn.Linear(4, 3)
    module = nn.Sequential(body, head)
    stages = stages_of(module, stem="0", head="1")
    rates = {"stem": 0.1, HEAD: 0.1}
    optimizer = create_optimizer(module, stages, name=name, rates=rates, weight_decay=0.1)
    require_optimizer(name)
    freeze(module, {"1.weight", "1.bias"})
    before = {k: v.clone() for k, v in module.state_dict().items()}
    for _ in range(3):
        nn.functional.cross_entropy(module(torch.randn(8, 4)), torch.arange(8) % 3).backward()
        with torch.compiler.set_stance("force_eager"):  # kron would compile for a minute
            optimizer.step()
        optimizer.zero_grad()

    after = module.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"1.weight", "1.bias"}
    for state in (optimizer.state[p] for p in body.parameters() if p in optimizer.state):
        assert int(state["step"]) == 0, "adagrad creates its state at once, but must not advance it"


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion", "adan", "cadan", "madgrad", "nadam"])
def test_restart_thawed__starts_a_stage_that_thaws_late_at_its_first_step(name):
    """The stage takes the first step of a fresh optimizer."""
    moved = []
    for frozen_steps in (0, 30):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
        rates = {"stem": 1e-3, HEAD: 1e-30}
        optimizer = create_optimizer(
            module, stages_of(module, stem="0", head="1"), name=name, rates=rates, weight_decay=0
        )
        images, labels = torch.randn(8, 4), torch.arange(8) % 3
        before = module[0].weight.detach().clone()
        for step in range(frozen_steps + 1):
            if step in (0, frozen_steps):
                thawed = {"0.weight", "0.bias"} if step == frozen_steps else set()
                freeze(module, {"1.weight", "1.bias"} | thawed)
                restart_thawed(optimizer)
            nn.functional.cross_entropy(module(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        moved.append(module[0].weight.detach() - before)

    assert moved[0].abs().max() > 0
    assert torch.allclose(moved[0], moved[1], rtol=0.02, atol=1e-6)


def test_create_optimizer__decays_the_weights_of_layers_only():
    network = network_of("torchvision:swin_t")
    optimizer = optimizer_of(network)
    names = {id(p): name for name, p in network.module.named_parameters()}

    groups = [group for group in optimizer.param_groups if group["weight_decay"]]
    decayed = {names[id(p)] for group in groups for p in group["params"]}
    assert "features.1.0.attn.qkv.weight" in decayed
    assert not any(n.endswith(("bias", "bias_table")) for n in decayed)


def stages_of(module, **prefixes):
    from transferkit.models.stages import Stage

    names = [name for name, _ in module.named_parameters()]
    return [
        Stage(stage, tuple(n for n in names if n.startswith(f"{prefix}.")), (prefix,))
        for stage, prefix in prefixes.items()
    ]
