"""The layer table: everything in it is what torch does, of every family and at any size."""

from contextlib import suppress

import pytest
import torch
from torch import nn

from transferkit.models.anatomy.layer_table import Role, list_layers
from transferkit.models.building import without_drawing
from transferkit.models.feature_extractor import FeatureExtractor, Pool
from transferkit.models.sources import create_network

FAMILIES = [
    "vgg19",
    "resnet18",
    "densenet121",
    "convnext_tiny",
    "torchvision:alexnet",
    "torchvision:googlenet",
]


def network_of(name: str, size: int | None = 64):
    with without_drawing():  # no value matters here
        return create_network(name, weights="none", image_size=size)


def rows_of(network) -> dict:
    return {row.name: row for row in reversed(list_layers(network))}


@pytest.mark.parametrize("name", FAMILIES)
def test_list_layers__sizes_and_parameters_by_formula_are_those_of_a_real_pass(name):
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


def test_list_layers__hold_each_parameter_of_a_transformer_once():
    network = network_of("vit_tiny_patch16_224", 96)

    rows = list_layers(network)

    listed, actual = sums(network, rows)
    assert listed == actual
    assert is_without_repeats(rows)


def sums(network, rows) -> tuple[list[int], list[int]]:
    """Parameters in all layers and in all stages, and biases, as listed and as the network has."""
    own = {name: p.numel() for name, p in network.module.named_parameters()}
    counted = [row for row in rows if row.role in (Role.LAYER, Role.PARAMETER)]
    stages = [row for row in rows if row.role is Role.STAGE][2:]
    listed = [sum(row.parameters for row in part) for part in (counted, stages)]
    total, biases = sum(own.values()), sum(n for name, n in own.items() if name.endswith("bias"))
    return [*listed, sum(row.biases for row in counted)], [total, total, biases]


def is_without_repeats(rows) -> bool:
    return len({(row.name, row.role is Role.STAGE) for row in rows}) == len(rows)


def test_list_layers__googlenets_pools_in_ceil_mode():
    rows = rows_of(network_of("torchvision:googlenet", None))

    # 112 -> 56 and 28 -> 14 come out of windows that overhang; without them it were 55 and 13.
    assert [rows[f"maxpool{i}"].output[1] for i in (1, 2, 3, 4)] == [56, 28, 14, 7]
    assert all(rows[f"maxpool{i}"].agrees for i in (1, 2, 3, 4))


def test_list_layers__settings_shapes_and_strides_of_a_resnet():
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


def test_list_layers__a_wrong_size_or_count_is_told():
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


def test_list_layers__without_a_formula_is_listed_and_not_said_to_agree():
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
    assert not attention.takable  # it gives a pair
    assert rows["class_token"].role is Role.PARAMETER
    assert rows["class_token"].output == (1, 1, 768)


def test_list_layers__takable_is_what_layer_takes():
    two_branches = rows_of(create_network("crossvit_9_240", weights="none"))
    shuffled = list_layers(network_of("torchvision:shufflenet_v2_x0_5"))
    network = network_of("test_resnet")

    assert "pooled" not in two_branches
    names = [row.name for row in shuffled if row.takable and row.role is not Role.STAGE]
    assert "conv1.0" in names
    assert not {"stem", "stage1"} & set(names)
    for row in list_layers(network):
        taken = FeatureExtractor(network, (row.name,), Pool.NONE).shape
        assert row.takable
        assert row.name == "pooled" or taken == row.output


def test_list_layers__attention_and_gates_see_the_whole_picture():
    vit = rows_of(network_of("vit_tiny_patch16_224"))
    gated = rows_of(network_of("efficientnet_b0"))
    mixer = rows_of(network_of("mixer_s32_224", 224))

    assert (vit["stem"].receptive_field, vit["stage1"].receptive_field) == (16, None)
    assert (gated["stem"].receptive_field, gated["stage1"].receptive_field) == (3, None)
    assert gated["stage5"].effective_stride == 32
    assert mixer["stage1"].receptive_field is None


def prepare_for_gradients(module: nn.Module) -> None:
    """Let every number that a layer looks at count, and nothing cancel or die; leave heads out."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MaxPool2d):  # a maximum depends on one number only
                window = (child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(parent, name, nn.AvgPool2d(*window))
            if isinstance(child, nn.Conv2d | nn.Linear) and child.weight.numel() > 10_000_000:
                setattr(parent, name, nn.Identity())
            elif isinstance(child, nn.Conv2d | nn.Linear):
                size = child.weight[0].numel()
                nn.init.uniform_(child.weight, 0.5 / size, 1.5 / size)
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1 and not name.endswith("bias"):
            nn.init.ones_(parameter)  # scales, some of which begin at zero or nearly so
    module.double()  # what the farthest pixels add is far below float32's least number


def rows_reached(network, layers: list[str], height: int, width: int = 32) -> dict[str, int]:
    """How many rows of a tall picture a row in the middle of each layer's map depends on."""
    taken = {}
    for layer in layers:
        network.module.get_submodule(layer).register_forward_hook(
            lambda _, __, out, n=layer: taken.__setitem__(n, out)
        )
    image = torch.rand(1, 3, height, width, dtype=torch.float64, requires_grad=True)
    with suppress(RuntimeError):  # heads take no tall pictures
        network.module(image)
    found = {}
    for layer in layers:
        middle = taken[layer][0, :, taken[layer].shape[2] // 2].sum()
        (gradient,) = torch.autograd.grad(middle, image, retain_graph=True)
        rows = (gradient[0].abs().sum(dim=(0, 2)) > 0).nonzero()
        found[layer] = int(rows.max() - rows.min()) + 1
    return found


GOOGLENET = ["maxpool2", "inception3a", "inception4a", "inception4e", "inception5b"]
QUICK = [
    ("resnet18", ["conv1", "maxpool", "layer1", "layer2.0.downsample.0", "layer3", "layer4"]),
    ("torchvision:alexnet", ["features.0", "features.2", "features.10", "features.12"]),
    ("torchvision:googlenet", GOOGLENET),
    ("vgg19", ["features.2", "features.9", "features.16"]),
    ("densenet121", ["features.denseblock1", "features.transition1"]),
    ("convnext_tiny", ["stem", "stages.0"]),
]
DEEP = [
    ("vgg19", ["features.27", "features.36"]),
    ("densenet121", ["features.denseblock3", "features.denseblock4"]),
    ("convnext_tiny", ["stages.1", "stages.2", "stages.3"]),
]


def told_and_reached(name: str, layers: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    """The receptive fields of layers, as listed and as gradients have them."""
    network = network_of(name, 96)
    rows = rows_of(network)
    prepare_for_gradients(network.module)
    told = {layer: rows[layer].receptive_field for layer in layers}
    strides = max(rows[layer].effective_stride for layer in layers)
    height, width = max(told.values()) + 3 * strides, 80 if "alexnet" in name else 32

    return told, rows_reached(network, layers, height, width)


@pytest.mark.parametrize(("name", "layers"), QUICK, ids=[name for name, _ in QUICK])
def test_receptive_field__is_what_gradients_reach(name, layers):
    told, reached = told_and_reached(name, layers)

    assert told == reached


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layers"), DEEP, ids=[name for name, _ in DEEP])
def test_receptive_field__is_what_gradients_reach_at_the_end_of_deep_networks(name, layers):
    told, reached = told_and_reached(name, layers)

    assert told == reached
