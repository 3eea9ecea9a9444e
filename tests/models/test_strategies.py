"""Phases: which stages are trained in which epochs, for every strategy."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from transferkit.errors import OptionError
from transferkit.models.create_network import create_network
from transferkit.models.strategies import (
    EVERYTHING,
    HEAD_ALONE,
    Phase,
    Strategy,
    Unfreeze,
    plan_phases,
)


@pytest.fixture(scope="module")
def network():
    """Stem, four stages and a head."""
    torch.manual_seed(0)
    return create_network("test_resnet", weights="none", num_classes=3)


def planned(network, strategy, *, epochs=10, unfreeze="head", freeze_epochs=0, thaw_every=1):
    phases = plan_phases(
        network,
        strategy=strategy,
        unfreeze=Unfreeze(unfreeze),
        epochs=epochs,
        freeze_epochs=freeze_epochs,
        thaw_every=thaw_every,
    )
    return [(p.name, p.epochs.start, p.epochs.stop - 1) for p in phases]


@pytest.mark.parametrize(
    ("strategy", "settings", "expected"),
    [
        (Strategy.PARTIAL, {}, [("head", 1, 10)]),
        (Strategy.PARTIAL, {"unfreeze": "last:2"}, [("last:2", 1, 10)]),
        (
            Strategy.PARTIAL,
            {"unfreeze": "last:2", "freeze_epochs": 3},
            [("head", 1, 3), ("last:2", 4, 10)],
        ),
        (Strategy.FULL, {}, [("all", 1, 10)]),
        (Strategy.FULL, {"freeze_epochs": 1}, [("head", 1, 1), ("all", 2, 10)]),
        (
            Strategy.GRADUAL,
            {"freeze_epochs": 2},
            [
                ("head", 1, 2),
                ("last:1", 3, 3),
                ("last:2", 4, 4),
                ("last:3", 5, 5),
                ("last:4", 6, 6),
                ("all", 7, 10),
            ],
        ),
        (
            Strategy.GRADUAL,
            {"freeze_epochs": 1, "thaw_every": 3},
            [("head", 1, 1), ("last:1", 2, 4), ("last:2", 5, 7), ("last:3", 8, 10)],
        ),
        (
            Strategy.GRADUAL,
            {"freeze_epochs": 4, "thaw_every": 0},
            [("head", 1, 4), ("all", 5, 10)],
        ),
        (Strategy.GRADUAL, {"epochs": 1}, [("last:1", 1, 1)]),
    ],
)
def test_plan_phases__follow_the_strategy(network, strategy, settings, expected):
    assert planned(network, strategy, **settings) == expected


def test_plan_phases__gradual_adds_one_stage_per_phase(network):
    phases = plan_phases(
        network,
        strategy=Strategy.GRADUAL,
        unfreeze=HEAD_ALONE,
        epochs=20,
        freeze_epochs=1,
        thaw_every=2,
    )
    trained = [[stage.name for stage in phase.trainable] for phase in phases]

    assert trained[0] == ["head"]
    assert trained[1:3] == [["stage4", "head"], ["stage3", "stage4", "head"]]
    assert trained[-1] == [stage.name for stage in network.stages]
    assert all(a.parameters < b.parameters for a, b in pairwise(phases))
    assert phases[-1].parameters == {name for stage in network.stages for name in stage.parameters}


def test_plan_phases__cover_every_epoch_once(network):
    for epochs in range(1, 12):
        phases = planned(network, Strategy.GRADUAL, epochs=epochs, freeze_epochs=2, thaw_every=2)
        numbers = [e for _, first, last in phases for e in range(first, last + 1)]

        assert numbers == list(range(1, epochs + 1))


def test_plan_phases__an_unknown_stage_is_an_error(network):
    with pytest.raises(OptionError, match="--unfreeze: got last:9, but the backbone has 5 stages"):
        planned(network, Strategy.PARTIAL, unfreeze="last:9", freeze_epochs=1)


@pytest.mark.parametrize(
    ("unfreeze", "expected"),
    [
        ("head", ["head"]),
        ("last:1", ["stage4", "head"]),
        ("last:3", ["stage2", "stage3", "stage4", "head"]),
        ("last:5", ["stem", "stage1", "stage2", "stage3", "stage4", "head"]),
        ("from:stage3", ["stage3", "stage4", "head"]),
        ("from:stem", ["stem", "stage1", "stage2", "stage3", "stage4", "head"]),
        (r"re:^layer[24]\.", ["stage2", "stage4", "head"]),
        (r"re:bn\d", ["stem", "stage1", "stage2", "stage3", "stage4", "head"]),
        ("norms", ["stem", "stage1", "stage2", "stage3", "stage4", "head"]),
        ("all", ["stem", "stage1", "stage2", "stage3", "stage4", "head"]),
    ],
)
def test_unfreeze__chooses_the_stages_of_resnet(network, unfreeze, expected):
    stages = Unfreeze(unfreeze).stages(network)

    assert [stage.name for stage in stages] == expected


@pytest.mark.parametrize(
    "unfreeze", ["tail", "last", "last:0", "last:-1", "last:x", "", "from:", "re:"]
)
def test_unfreeze__of_an_unknown_form_lists_the_known_ones(unfreeze):
    with pytest.raises(OptionError, match=r"expected head \(nothing else\), last:N .*, from:STAGE"):
        Unfreeze(unfreeze)


def test_unfreeze__of_too_many_stages_lists_those_of_the_backbone(network):
    with pytest.raises(OptionError) as error:
        Unfreeze("last:99").stages(network)

    assert str(error.value) == (
        "--unfreeze: got last:99, but the backbone has 5 stages "
        "(stem, stage1, stage2, stage3, stage4); expected last:1 to last:5"
    )


@pytest.mark.parametrize(
    ("unfreeze", "message"),
    [
        ("from:stage9", "but the backbone's stages are stem, stage1, stage2, stage3, stage4"),
        ("re:layer9", r"re:layer9 matches no parameter .* stage4: layer4\)"),
        ("re:(", "which is not a regular expression"),
    ],
)
def test_unfreeze__matching_nothing_lists_what_could_match(network, unfreeze, message):
    with pytest.raises(OptionError, match=message):
        Unfreeze(unfreeze).stages(network)


def test_unfreeze__a_pattern_narrows_stages_to_matching_parameters(network):
    trainable = Unfreeze(r"re:layer4.*bn\d.*bias").stages(network)

    assert [stage.name for stage in trainable] == ["stage4", "head"]
    assert trainable[0].parameters == ("layer4.0.bn1.bias", "layer4.0.bn2.bias")


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "densenet121"])
def test_unfreeze__norms_are_only_the_scales_and_shifts_of_norms(name):
    network = create_network(name, weights="none", num_classes=3)
    *backbone, head = Unfreeze("norms").stages(network)
    modules = dict(network.module.named_modules())
    kinds = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
    owners = {p.rpartition(".")[0] for stage in backbone for p in stage.parameters}

    assert owners == {owner for owner, layer in modules.items() if isinstance(layer, kinds)} - {
        owner for owner in modules if owner.startswith(tuple(network.heads))
    }
    assert all(isinstance(modules[owner], kinds) for owner in owners)
    assert head == network.stages[-1]


def test_unfreeze__norms_without_any_norm_layer_is_an_error():
    network = create_network("torchvision:alexnet", weights="none", num_classes=3)
    with pytest.raises(OptionError, match="no normalisation layers with parameters; train its"):
        Unfreeze("norms").stages(network)


@pytest.mark.parametrize("unfreeze", ["last:5", "from:stem", "all"])
def test_phase__of_all_stages_freezes_nothing_under_any_name(network, unfreeze):
    phase = Phase.of(network, Unfreeze(unfreeze), range(1, 3))

    assert not phase.freezes_anything
    assert phase.parameters == Phase.of(network, EVERYTHING, range(1, 3)).parameters
    assert Phase.of(network, HEAD_ALONE, range(1, 3)).frozen == {
        name for name, _ in network.module.named_parameters() if not name.startswith("fc.")
    }
