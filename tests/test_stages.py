"""Stages: every parameter in exactly one, in order, with the head apart."""

import pytest

from transferkit.models.backbones import create_network
from transferkit.models.stages import HEAD

ARCHITECTURES = [
    "resnet18",
    "vgg11",
    "vgg11_bn",
    "densenet121",
    "convnext_atto",
    "efficientnet_b0",
    "mobilenetv3_small_050",
    "regnetx_002",
    "inception_v3",
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "swin_tiny_patch4_window7_224",
    "mixer_s32_224",
    "torchvision:alexnet",
    "torchvision:googlenet",
    "torchvision:resnet18",
    "torchvision:squeezenet1_1",
    "torchvision:vgg11",
    "torchvision:swin_t",
    "torchvision:mobilenet_v3_small",
]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_stages__partition_the_parameters(name):
    network = create_network(name, weights="none")
    parameters = [p for p, _ in network.module.named_parameters()]
    in_stages = [p for stage in network.stages for p in stage.parameters]
    names = [stage.name for stage in network.stages]

    assert sorted(in_stages) == sorted(parameters)
    assert names == ["stem", *(f"stage{i}" for i in range(1, len(names) - 1)), HEAD]
    assert len(names) >= 5
    assert all(stage.parameters for stage in network.stages)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_stages__modules_hold_their_stage_and_nothing_else(name):
    network = create_network(name, weights="none")
    parameters = [p for p, _ in network.module.named_parameters()]
    for stage in network.stages:
        below = tuple(f"{module}." for module in stage.modules)
        held = [p for p in parameters if p.startswith(below) or p in stage.modules]
        assert sorted(held) == sorted(stage.parameters)


def stage_modules(name: str) -> dict[str, tuple[str, ...]]:
    return {s.name: s.modules for s in create_network(name, weights="none").stages}


def test_stages__of_resnet18():
    assert stage_modules("resnet18") == {
        "stem": ("conv1", "bn1"),
        "stage1": ("layer1",),
        "stage2": ("layer2",),
        "stage3": ("layer3",),
        "stage4": ("layer4",),
        "head": ("fc",),
    }


@pytest.mark.parametrize(
    ("name", "fully_connected", "head"),
    [
        ("vgg11", ("pre_logits",), ("head",)),
        ("torchvision:vgg11", ("classifier.0", "classifier.3"), ("classifier.6",)),
        ("torchvision:alexnet", ("classifier.1", "classifier.4"), ("classifier.6",)),
    ],
)
def test_stages__the_pretrained_fully_connected_pair_is_the_last_stage(name, fully_connected, head):
    *_, last, new = stage_modules(name).values()

    assert last == fully_connected
    assert new == head


def test_stages__a_norm_before_the_head_goes_with_the_last_stage():
    *_, last, new = stage_modules("convnext_atto").values()

    assert last == ("stages.3", "head.norm")
    assert new == ("head.fc",)
