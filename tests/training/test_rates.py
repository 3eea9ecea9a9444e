"""Discriminative learning rates, and the schedules that keep their ratios."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from timm.optim import list_optimizers
from torch import nn

from transferkit.errors import OptionError, UnknownNameError
from transferkit.models.freezing import freeze
from transferkit.models.sources import create_network
from transferkit.models.stages import HEAD
from transferkit.training.optimizer import (
    applied_rates,
    create_optimizer,
    require_optimizer,
    restart_thawed,
)
from transferkit.training.rates import default_layer_decay, spread_rates, stage_rates
from transferkit.training.schedule import Scheduler, create_schedule


def network_of(name="test_resnet"):
    torch.manual_seed(0)
    return create_network(name, weights="none", num_classes=3)


def optimizer_of(network, name="adamw", stages=None):
    stages = stages or network.stages
    rates = {stage.name: 1.0 if stage.name == HEAD else 0.1 for stage in network.stages}
    return create_optimizer(network.module, stages, name=name, rates=rates, weight_decay=0.5)


def test_stage_rates__fall_from_the_last_stage_towards_the_stem():
    rates = stage_rates(
        ["stem", "stage1", "stage2"], "head", head_rate=1.0, backbone_rate=0.1, decay=0.5
    )

    assert rates == {"stem": 0.025, "stage1": 0.05, "stage2": 0.1, "head": 1.0}


def test_spread_rates__is_geometric_from_stem_to_head():
    rates = spread_rates(["stem", "stage1", "stage2", "head"], 1e-6, 1e-3)

    assert list(rates.values()) == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3])


@pytest.mark.parametrize(("stages", "decay"), [(1, 1 / 16), (2, 1 / 16), (5, 0.5), (13, 0.794)])
def test_default_layer_decay__leaves_the_stem_a_sixteenth(stages, decay):
    assert default_layer_decay(stages) == pytest.approx(decay, abs=1e-3)


def test_create_optimizer__has_a_group_a_stage_and_no_decay_on_norms_and_biases():
    network = network_of()
    optimizer = optimizer_of(network, stages=network.stages[-2:])

    told = [(g["stage"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert told == [
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


def test_create_optimizer__spares_what_the_network_exempts():
    network = network_of("test_vit")
    optimizer = optimizer_of(network)

    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert id(network.module.pos_embed) not in decayed
    assert id(network.module.blocks[0].attn.qkv.weight) in decayed


def test_applied_rates__are_those_of_what_is_trained_now():
    network = network_of()
    optimizer = optimizer_of(network)

    assert applied_rates(optimizer) == (1.0, 0.1)
    freeze(network.module, set(network.stages[-1].parameters))
    assert applied_rates(optimizer) == (1.0, 0.0)


def test_require_optimizer__says_what_it_does_not_know():
    with pytest.raises(UnknownNameError, match="unknown --optimizer 'adamww'; did you mean adamw"):
        require_optimizer("adamww")


@pytest.mark.parametrize("name", ["adahessian", "bnbadam", "fusedsgd"])
def test_require_optimizer__says_what_it_cannot_use(name):
    with pytest.raises(OptionError, match=f"--optimizer: {name} .*adamw"):
        require_optimizer(name)


@pytest.mark.filterwarnings("ignore:It is highly recommended to have 'opt_einsum'")
@pytest.mark.parametrize("name", list_optimizers(exclude_filters=["bnb*", "fused*", "adahessian"]))
def test_create_optimizer__all_of_timms_pass_over_what_is_frozen(name):
    """A frozen group has no gradient: it must get no update, no weight decay and no state."""
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
        with torch.compiler.set_stance("force_eager"):  # kron would compile itself for a minute
            optimizer.step()
        optimizer.zero_grad()

    after = module.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"1.weight", "1.bias"}
    for state in (optimizer.state[p] for p in body.parameters() if p in optimizer.state):
        assert int(state["step"]) == 0, "adagrad makes its state at once, and leaves it alone"


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion", "adan", "cadan", "madgrad", "nadam"])
def test_restart_thawed__a_stage_that_thaws_late_begins_at_its_first_step(name):
    """Its first step is that of a fresh run, however long others have been trained."""
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


def schedule_of(scheduler, steps):
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    groups = [
        {"params": [p], "lr": rate} for p, rate in zip(parameters, (1e-6, 1e-4, 1e-3), strict=True)
    ]
    optimizer = torch.optim.AdamW(groups)
    return optimizer, create_schedule(optimizer, scheduler, steps=steps)


@pytest.mark.parametrize("scheduler", list(Scheduler))
@pytest.mark.parametrize("steps", [1, 7, 100])
def test_create_schedule__scales_all_groups_by_one_factor(scheduler, steps):
    optimizer, schedule = schedule_of(scheduler, steps)
    factors = []
    for _ in range(steps):
        low, middle, high = (group["lr"] for group in optimizer.param_groups)
        assert middle / low == pytest.approx(100)
        assert high / low == pytest.approx(1000)
        factors.append(high / 1e-3)
        schedule.step()

    assert min(factors) > 0
    assert max(factors) == pytest.approx(1)


def test_create_schedule__cosine_rises_then_falls_to_nothing():
    optimizer, schedule = schedule_of(Scheduler.COSINE, 100)
    factors = []
    for _ in range(100):
        factors.append(optimizer.param_groups[-1]["lr"] / 1e-3)
        schedule.step()

    assert factors[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert factors[10] == pytest.approx(1, abs=1e-3)
    assert factors[55] == pytest.approx(0.5, abs=0.02)
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert 0 < factors[-1] < 0.001


@pytest.mark.parametrize(
    ("scheduler", "at", "factor"),
    [
        (Scheduler.NONE, 99, 1),
        (Scheduler.STEP, 38, 1),
        (Scheduler.STEP, 39, 0.1),
        (Scheduler.STEP, 99, 0.01),
        (Scheduler.MULTISTEP, 62, 1),
        (Scheduler.MULTISTEP, 63, 0.1),
        (Scheduler.MULTISTEP, 99, 0.01),
        (Scheduler.POLY, 55, 0.5),
        (Scheduler.TANH, 99, 0),
    ],
)
def test_create_schedule__the_others_fall_where_they_say(scheduler, at, factor):
    optimizer, schedule = schedule_of(scheduler, 100)
    schedule.go_to(at)

    assert optimizer.param_groups[-1]["lr"] / 1e-3 == pytest.approx(factor, abs=0.01)


def test_schedule__goes_on_where_it_was():
    walked, one = schedule_of(Scheduler.COSINE, 50)
    jumped, other = schedule_of(Scheduler.COSINE, 50)
    for _ in range(20):
        one.step()
    other.go_to(one.done)

    assert [g["lr"] for g in walked.param_groups] == [g["lr"] for g in jumped.param_groups]
