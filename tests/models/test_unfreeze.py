"""`--unfreeze`: which parameters each form chooses, and what it says when there are none."""

import pytest
import torch
from torch import nn

from transferkit.errors import OptionError
from transferkit.models.create_network import create_network
from transferkit.models.unfreeze import Unfreeze


@pytest.fixture(scope="module")
def network():
    """Stem, four stages and a head."""
    torch.manual_seed(0)
    return create_network("test_resnet", weights="none", num_classes=3)


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
