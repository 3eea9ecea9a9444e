"""Receptive fields: those listed are those that gradients reach."""

from contextlib import suppress

import pytest
import torch
from torch import nn
from untrained import create_undrawn

from transferkit.models.anatomy.layer_table import list_layers

NARROW = {"vgg19": {"mlp_ratio": 1 / 64}}
"""Model arguments that remove 100 million parameters from the layers before the head."""


def network_of(name: str, size: int | None = 64):
    return create_undrawn(name, image_size=size, model_args=NARROW.get(name))


def rows_of(network) -> dict:
    return {row.name: row for row in reversed(list_layers(network))}


def test_list_layers__attention_and_gates_see_the_whole_image():
    vit = rows_of(network_of("vit_tiny_patch16_224"))
    gated = rows_of(network_of("efficientnet_b0"))
    mixer = rows_of(network_of("mixer_s32_224", 224))

    assert (vit["stem"].receptive_field, vit["stage1"].receptive_field) == (16, None)
    assert (gated["stem"].receptive_field, gated["stage1"].receptive_field) == (3, None)
    assert gated["stage5"].effective_stride == 32
    assert mixer["stage1"].receptive_field is None


def prepare_for_gradients(module: nn.Module) -> None:
    """Make every input of a layer contribute to its output, without cancelling; drop big heads."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MaxPool2d):  # a maximum passes its gradient to one input only
                window = (child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(parent, name, nn.AvgPool2d(*window))
            if isinstance(child, nn.Conv2d | nn.Linear) and child.weight.numel() > 10_000_000:
                setattr(parent, name, nn.Identity())
            elif isinstance(child, nn.Conv2d | nn.Linear):
                size = child.weight[0].numel()
                nn.init.uniform_(child.weight, 0.5 / size, 1.5 / size)
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1 and not name.endswith("bias"):
            nn.init.ones_(parameter)  # scales, some of which start at or near zero
    module.double()  # the contribution of the farthest pixels underflows in float32


def rows_reached(network, layers: list[str], height: int, width: int = 32) -> dict[str, int]:
    """Return, for each layer, how many rows of a tall image its map's middle row depends on."""
    taken = {}
    for layer in layers:
        network.module.get_submodule(layer).register_forward_hook(
            lambda _, __, out, n=layer: taken.__setitem__(n, out)
        )
    image = torch.rand(1, 3, height, width, dtype=torch.float64, requires_grad=True)
    with suppress(RuntimeError):  # heads cannot take tall images
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


def listed_and_reached(name: str, layers: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the receptive fields of layers, as listed and as reached by gradients."""
    network = network_of(name, 96)
    rows = rows_of(network)
    prepare_for_gradients(network.module)
    listed = {layer: rows[layer].receptive_field for layer in layers}
    strides = max(rows[layer].effective_stride for layer in layers)
    height, width = max(listed.values()) + 3 * strides, 80 if "alexnet" in name else 32

    return listed, rows_reached(network, layers, height, width)


@pytest.mark.parametrize(("name", "layers"), QUICK, ids=[name for name, _ in QUICK])
def test_receptive_field__is_what_gradients_reach(name, layers):
    listed, reached = listed_and_reached(name, layers)

    assert listed == reached


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layers"), DEEP, ids=[name for name, _ in DEEP])
def test_receptive_field__is_what_gradients_reach_at_the_end_of_deep_networks(name, layers):
    listed, reached = listed_and_reached(name, layers)

    assert listed == reached
