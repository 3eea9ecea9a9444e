"""Freezing: the set that is named is the set that moves, BatchNorm and dropout included."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from transferkit.errors import OptionError, TransferKitError
from transferkit.models.backbones import create_network
from transferkit.models.freezing import (
    Strategy,
    freeze,
    frozen_tensors,
    train_mode,
    trainable_stages,
)
from transferkit.training.loss import ClassWeights, class_weights
from transferkit.training.optimizer import create_optimizer, rates
from transferkit.training.proof import frozen_digests, require_unchanged
from transferkit.training.schedule import warmup_cosine


def network_of(name="test_resnet"):
    torch.manual_seed(0)
    return create_network(name, weights="none", num_classes=3)


def chosen(network, strategy, unfreeze="head"):
    return trainable_stages(network.stages, strategy=strategy, unfreeze=unfreeze)


def prepared(network, strategy, unfreeze="head"):
    trainable = chosen(network, strategy, unfreeze)
    freeze(network.module, {name for stage in trainable for name in stage.parameters})
    return trainable


@pytest.mark.parametrize(
    ("strategy", "unfreeze", "expected"),
    [
        (Strategy.PARTIAL, "head", ["head"]),
        (Strategy.PARTIAL, "last:1", ["stage4", "head"]),
        (Strategy.PARTIAL, "last:3", ["stage2", "stage3", "stage4", "head"]),
        (Strategy.PARTIAL, "last:5", ["stem", "stage1", "stage2", "stage3", "stage4", "head"]),
        (Strategy.PARTIAL, "from:stage3", ["stage3", "stage4", "head"]),
        (Strategy.PARTIAL, "from:stem", ["stem", "stage1", "stage2", "stage3", "stage4", "head"]),
        (Strategy.PARTIAL, r"re:^layer[24]\.", ["stage2", "stage4", "head"]),
        (Strategy.PARTIAL, r"re:bn\d", ["stem", "stage1", "stage2", "stage3", "stage4", "head"]),
        (Strategy.PARTIAL, "all", ["stem", "stage1", "stage2", "stage3", "stage4", "head"]),
        (Strategy.FULL, "head", ["stem", "stage1", "stage2", "stage3", "stage4", "head"]),
    ],
)
def test_trainable_stages__of_resnet(strategy, unfreeze, expected):
    assert [stage.name for stage in chosen(network_of(), strategy, unfreeze)] == expected


@pytest.mark.parametrize(
    "unfreeze", ["tail", "last", "last:0", "last:-1", "last:x", "", "from:", "re:"]
)
def test_trainable_stages__says_what_form_it_expects(unfreeze):
    with pytest.raises(OptionError, match="expected head, last:N, from:STAGE"):
        chosen(network_of(), Strategy.PARTIAL, unfreeze)


def test_trainable_stages__says_how_many_there_are():
    with pytest.raises(OptionError) as error:
        chosen(network_of(), Strategy.PARTIAL, "last:99")

    assert str(error.value) == (
        "--unfreeze: got last:99, but the backbone has 5 stages "
        "(stem, stage1, stage2, stage3, stage4); expected last:1 to last:5"
    )


@pytest.mark.parametrize(
    ("unfreeze", "message"),
    [
        ("from:stage9", "but the backbone's stages are stem, stage1, stage2, stage3, stage4"),
        ("re:layer9", r"re:layer9 is found in no parameter .* stage4: layer4\)"),
        ("re:(", "which is no regular expression"),
    ],
)
def test_trainable_stages__says_what_there_is_when_nothing_matches(unfreeze, message):
    with pytest.raises(OptionError, match=message):
        chosen(network_of(), Strategy.PARTIAL, unfreeze)


def test_trainable_stages__a_pattern_narrows_its_stages():
    trainable = chosen(network_of(), Strategy.PARTIAL, r"re:layer4.*bn\d.*bias")

    assert [stage.name for stage in trainable] == ["stage4", "head"]
    assert trainable[0].parameters == ("layer4.0.bn1.bias", "layer4.0.bn2.bias")


def test_frozen_tensors__are_the_frozen_parameters_and_their_statistics():
    network = network_of()
    prepared(network, Strategy.PARTIAL, "last:1")
    frozen = set(frozen_tensors(network.module))

    assert "layer3.0.bn1.running_mean" in frozen
    assert not any(name.startswith(("layer4.", "fc.")) for name in frozen)
    assert frozen == {
        n for n in network.module.state_dict() if not n.startswith(("layer4.", "fc."))
    }


def test_require_unchanged__names_what_moved():
    network = network_of()
    prepared(network, Strategy.PARTIAL, "head")
    before = frozen_digests(network.module)
    require_unchanged(before, frozen_digests(network.module))
    network.module.layer2[0].bn1.running_mean[0] += 1e-6

    with pytest.raises(
        TransferKitError, match=r"1 tensors changed .*: layer2\.0\.bn1\.running_mean;"
    ):
        require_unchanged(before, frozen_digests(network.module))


@pytest.mark.parametrize(
    ("name", "strategy", "unfreeze"),
    [
        ("test_resnet", Strategy.PARTIAL, r"re:^layer[13]\."),
        ("test_resnet", Strategy.PARTIAL, "re:conv"),
        ("test_resnet", Strategy.PARTIAL, "head"),
        ("test_resnet", Strategy.PARTIAL, "last:2"),
        ("test_resnet", Strategy.FULL, "head"),
        ("test_vit", Strategy.PARTIAL, "last:1"),
        ("test_convnext", Strategy.PARTIAL, "last:1"),
        ("test_efficientnet", Strategy.PARTIAL, "head"),
        ("torchvision:mobilenet_v3_small", Strategy.PARTIAL, "last:1"),
    ],
)
def test_training_step__changes_the_planned_tensors_and_no_others(name, strategy, unfreeze):
    """Parameters and BatchNorm buffers of frozen stages stay bit-equal; the others move."""
    network = network_of(name)
    trainable = prepared(network, strategy, unfreeze)
    optimizer = create_optimizer(
        network.module,
        trainable,
        learning_rate=0.1,
        backbone_learning_rate=0.1,
        weight_decay=0.1,
    )
    before = {k: v.clone() for k, v in network.module.state_dict().items()}
    frozen = set(frozen_tensors(network.module))
    size = network.preprocessing.input_size
    for seed in range(2):
        train_mode(network.module)
        torch.manual_seed(seed)
        loss = nn.functional.cross_entropy(
            network.module(torch.rand(4, *size)), torch.tensor([0, 1, 2, 0])
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = network.module.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    planned = {p for stage in trainable for p in stage.parameters}
    moving_statistics = {k for k in before if k.endswith("running_mean")} - frozen

    assert not changed & frozen
    assert not planned & frozen
    assert {p for p in planned if p.startswith(network.heads)} <= changed
    assert len(planned & changed) > 0.8 * len(planned)
    assert moving_statistics <= changed


def test_train_mode__leaves_dropout_of_frozen_stages_off():
    network = network_of("torchvision:alexnet")
    prepared(network, Strategy.PARTIAL, "head")
    train_mode(network.module)
    dropouts = [m for m in network.module.modules() if isinstance(m, nn.Dropout)]

    assert len(dropouts) == 2
    assert not any(dropout.training for dropout in dropouts)
    assert network.module.classifier[6].training


def test_train_mode__of_full_training_trains_everything():
    network = network_of()
    prepared(network, Strategy.FULL)
    train_mode(network.module)

    assert all(module.training for module in network.module.modules())


def test_create_optimizer__has_a_group_a_stage_and_no_decay_on_norms_and_biases():
    network = network_of()
    trainable = prepared(network, Strategy.PARTIAL, "last:1")

    optimizer = create_optimizer(
        network.module, trainable, learning_rate=1.0, backbone_learning_rate=0.1, weight_decay=0.5
    )

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
    assert held == sum(p.numel() for p in network.module.parameters() if p.requires_grad)
    assert rates(optimizer) == (1.0, 0.1)


def test_create_optimizer__spares_what_the_network_exempts():
    network = network_of("test_vit")
    trainable = prepared(network, Strategy.FULL)

    optimizer = create_optimizer(
        network.module, trainable, learning_rate=1.0, backbone_learning_rate=0.1, weight_decay=0.5
    )

    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert id(network.module.pos_embed) not in decayed
    assert id(network.module.blocks[0].attn.qkv.weight) in decayed


def test_warmup_cosine__rises_then_falls_to_nothing():
    factors = [warmup_cosine(step, 100) for step in range(100)]

    assert factors[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert 0 < factors[-1] < 0.001


def test_class_weights__balanced_is_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0, 0, 0, 1, 2, 2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)

    assert class_weights(ClassWeights.BALANCED, labels) == pytest.approx(expected)
    assert class_weights(ClassWeights.NONE, labels) is None
