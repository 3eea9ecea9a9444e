"""Freezing: only the named parameters are trained, and BatchNorm and dropout follow them."""

import pytest
import torch
from torch import nn

from transferkit.models.create_network import create_network
from transferkit.models.freezing import (
    BatchNorm,
    freeze,
    frozen_names,
    train_mode,
)
from transferkit.models.unfreeze import Unfreeze


def network_of(name="test_resnet"):
    torch.manual_seed(0)
    return create_network(name, weights="none", num_classes=3)


def prepared(network, unfreeze):
    trainable = Unfreeze(unfreeze).stages(network)
    freeze(network.module, {name for stage in trainable for name in stage.parameters})
    return trainable


def parameters_of(trainable):
    return {name for stage in trainable for name in stage.parameters}


def test_frozen_names__are_the_frozen_parameters_and_their_statistics():
    network = network_of()
    trainable = parameters_of(Unfreeze("last:1").stages(network))
    frozen = set(frozen_names(network.module, trainable, BatchNorm.TRAIN))

    assert "layer3.0.bn1.running_mean" in frozen
    assert frozen == {
        n for n in network.module.state_dict() if not n.startswith(("layer4.", "fc."))
    }
    held = set(frozen_names(network.module, trainable, BatchNorm.EVAL)) - frozen
    assert held == {n for n, _ in network.module.named_buffers() if n.startswith("layer4.")}


def test_frozen_names__include_the_statistics_of_a_partly_trained_norm():
    network = network_of()
    trainable = parameters_of(Unfreeze(r"re:layer4.0.bn1.bias").stages(network))

    frozen = frozen_names(network.module, trainable, BatchNorm.TRAIN)
    assert "layer4.0.bn1.running_var" in frozen
    assert "layer4.0.bn1.bias" not in frozen


def test_frozen_names__treat_a_norm_without_parameters_like_its_stage():
    module = nn.Sequential(
        nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)), nn.BatchNorm1d(2)
    )

    assert frozen_names(module, {"0.0.weight", "0.0.bias"}, BatchNorm.TRAIN) == tuple(
        f"1.{name}"
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    )


def test_train_mode__leaves_dropout_of_frozen_stages_off():
    network = network_of("torchvision:alexnet")
    prepared(network, "head")
    train_mode(network.module)
    dropouts = [m for m in network.module.modules() if isinstance(m, nn.Dropout)]

    assert len(dropouts) == 2
    assert not any(dropout.training for dropout in dropouts)
    assert network.module.classifier[6].training


def test_train_mode__with_everything_trainable_covers_every_module():
    network = network_of()
    prepared(network, "all")
    train_mode(network.module)

    assert all(module.training for module in network.module.modules())


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_train_mode__in_eval_affects_only_layers_with_statistics(name):
    network = network_of(name)
    prepared(network, "all")
    train_mode(network.module, BatchNorm.EVAL)
    modules = list(network.module.modules())
    holding = [m for m in modules if any("running" in n for n, _ in m.named_buffers(recurse=False))]

    assert holding
    assert {id(m) for m in modules if not m.training} == {id(m) for m in holding}
