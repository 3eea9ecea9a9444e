"""The layer table: it agrees with torch, for every family and any image size."""

import pytest
import torch
from torch import nn
from untrained import create_undrawn

from transferkit.models.anatomy.layer_table import Role, list_layers
from transferkit.models.create_network import create_network
from transferkit.models.feature_extractor import FeatureExtractor, Pool

FAMILIES = [
    "vgg19",
    "resnet18",
    "densenet121",
    "convnext_tiny",
    "torchvision:alexnet",
    "torchvision:googlenet",
]


NARROW = {"vgg19": {"mlp_ratio": 1 / 64}}
"""Model arguments that remove 100 million parameters from the layers before the head."""


def network_of(name: str, size: int | None = 64):
    return create_undrawn(name, image_size=size, model_args=NARROW.get(name))


def rows_of(network) -> dict:
    return {row.name: row for row in reversed(list_layers(network))}


@pytest.mark.parametrize("name", FAMILIES)
def test_list_layers__sizes_and_parameters_by_formula_agree_with_a_real_pass(name):
    network = network_of(name, 72)
    rows = list_layers(network)
    layers = [row for row in rows if row.role is Role.LAYER]
    measured: dict[str, tuple[int, ...]] = {}
    for inner, module in network.module.named_modules():
        module.register_forward_hook(
            lambda _, __, out, n=inner: measured.__setitem__(n, tuple(out.shape[1:]))
        )
    with torch.no_grad():
        network.module(torch.rand(1, *network.preprocessing.input_size))

    assert len(layers) > 15
    for row in layers:
        assert row.output == measured[row.name]
        assert row.agrees is True
        own = dict(network.module.get_submodule(row.name).named_parameters())
        assert row.biases == sum(p.numel() for n, p in own.items() if n.endswith("bias"))
        assert row.parameters == sum(p.numel() for p in own.values())
    listed, actual = sums(network, rows)
    assert listed == actual
    assert is_without_repeats(rows)


def test_list_layers__contains_each_parameter_of_a_transformer_once():
    network = network_of("vit_tiny_patch16_224", 96)

    rows = list_layers(network)

    listed, actual = sums(network, rows)
    assert listed == actual
    assert is_without_repeats(rows)


def sums(network, rows) -> tuple[list[int], list[int]]:
    """Return parameters in layers, parameters in stages, and biases: as listed, and as counted."""
    own = {name: p.numel() for name, p in network.module.named_parameters()}
    counted = [row for row in rows if row.role in (Role.LAYER, Role.PARAMETER)]
    stages = [row for row in rows if row.role is Role.STAGE][2:]
    listed = [sum(row.parameters for row in part) for part in (counted, stages)]
    total, biases = sum(own.values()), sum(n for name, n in own.items() if name.endswith("bias"))
    return [*listed, sum(row.biases for row in counted)], [total, total, biases]


def is_without_repeats(rows) -> bool:
    return len({(row.name, row.role is Role.STAGE) for row in rows}) == len(rows)


def test_list_layers__has_googlenets_pools_in_ceil_mode():
    rows = rows_of(network_of("torchvision:googlenet", None))

    # 112 -> 56 and 28 -> 14 need ceil mode; without it they would be 55 and 13.
    assert [rows[f"maxpool{i}"].output[1] for i in (1, 2, 3, 4)] == [56, 28, 14, 7]
    assert all(rows[f"maxpool{i}"].agrees for i in (1, 2, 3, 4))


def test_list_layers__has_settings_shapes_and_strides_of_a_resnet():
    network = network_of("resnet18", 224)
    rows = rows_of(network)
    first, stage = rows["conv1"], rows["stage4"]

    assert (first.kernel, first.stride, first.padding) == ((7, 7), (2, 2), (3, 3))
    assert (first.weights, first.biases, first.parameters) == (9408, 0, 9408)
    assert stage.output == (512, 7, 7)
    assert (stage.effective_stride, stage.receptive_field) == (32, 435)
    assert (rows["bn1"].weights, rows["bn1"].biases) == (64, 64)
    assert rows["layer1"].role is Role.MODULE
    assert rows["pooled"].output == (512,)
    assert next(iter(rows)) == "fc"  # the last row


def test_list_layers__marks_a_wrong_size_or_count():
    class Cropping(nn.Conv2d):
        def forward(self, x):
            return super().forward(x)[:, :, 1:]

    network = network_of("test_resnet", 32)
    first = network.module.conv1[0]
    wrong = Cropping(3, first.out_channels, 3, stride=first.stride, padding=1, bias=False)
    network.module.conv1[0] = wrong
    wrong.extra = nn.Parameter(torch.zeros(5))
    rows = rows_of(network)

    assert rows["conv1.0"].agrees is False
    assert [row.name for row in rows.values() if row.agrees is False] == ["conv1.0"]


def test_list_layers__a_layer_without_a_formula_neither_agrees_nor_differs():
    network = network_of("torchvision:vit_b_32", 64)
    listed_rows = list_layers(network)
    listed, actual = sums(network, listed_rows)
    rows = rows_of(network)
    attention = rows["encoder.layers.encoder_layer_0.self_attention"]

    assert listed == actual
    assert is_without_repeats(listed_rows)
    assert (attention.role, attention.agrees) == (Role.LAYER, None)
    assert attention.output == (5, 768)
    assert attention.parameters == 4 * (768 * 768 + 768)
    assert not attention.extractable  # its output is a pair
    assert rows["class_token"].role is Role.PARAMETER
    assert rows["class_token"].output == (1, 1, 768)


def test_list_layers__marks_what_can_be_extracted():
    two_branches = rows_of(create_network("crossvit_9_240", weights="none"))
    shuffled = list_layers(network_of("torchvision:shufflenet_v2_x0_5"))
    network = network_of("test_resnet")

    assert "pooled" not in two_branches
    names = [row.name for row in shuffled if row.extractable and row.role is not Role.STAGE]
    assert "conv1.0" in names
    assert not {"stem", "stage1"} & set(names)
    for row in list_layers(network):
        taken = FeatureExtractor(network, (row.name,), Pool.NONE).shape
        assert row.extractable
        assert row.name == "pooled" or taken == row.output
