"""Stages of some well-known architectures; `test_contract.py` covers all families."""

from functools import cache

import pytest
from untrained import create_undrawn


@cache
def stages_of(name: str) -> dict[str, tuple[tuple[str, ...], int]]:
    """Return stage name -> (its modules, its number of parameters)."""
    network = create_undrawn(name, num_classes=5)
    sizes = {key: parameter.numel() for key, parameter in network.module.named_parameters()}
    return {s.name: (s.modules, sum(sizes[p] for p in s.parameters)) for s in network.stages}


def stage_modules(name: str) -> dict[str, tuple[str, ...]]:
    return {stage: modules for stage, (modules, _) in stages_of(name).items()}


def test_stages__of_resnet18_are_its_layers():
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


@pytest.mark.parametrize(
    "name",
    [
        "tf_efficientnet_lite0",
        "mobilenetv3_small_050",
        "vgg11",
        "convnext_atto",
        "torchvision:vgg11",
    ],
)
def test_stages__are_the_same_with_and_without_a_head(name):
    with_head, without = (
        [(stage.name, stage.parameters) for stage in create_undrawn(name, num_classes=n).stages]
        for n in (5, 0)
    )

    assert with_head[:-1] == without[:-1]


def test_stages__a_norm_before_the_head_belongs_to_the_last_stage():
    *_, last, new = stage_modules("convnext_atto").values()

    assert last == ("stages.3", "head.norm")
    assert new == ("head.fc",)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "vgg11", "densenet121", "convnext_tiny", "swin_tiny_patch4_window7_224"],
)
def test_stages__are_the_same_in_both_libraries(name):
    """`last:2` means as many parameters whichever library built the network."""
    theirs = name.removesuffix("iny_patch4_window7_224")
    ours, other = (
        [size for _, size in stages_of(full).values()] for full in (name, f"torchvision:{theirs}")
    )

    assert len(ours) == len(other)
    # ConvNeXt's norm before the head and Swin's merging norms are in slightly different places.
    assert ours == pytest.approx(other, rel=1e-3)
