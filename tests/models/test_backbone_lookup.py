"""Names of backbones: the model each one means, and suggestions for unknown names."""

import pytest

from transferkit.errors import UnknownNameError, WeightsError
from transferkit.models.backbone_lookup import Origin, find_backbone
from transferkit.models.timm_source import TIMM


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", r"unknown backbone 'resnet81'; did you mean resnet18"),
        ("alexnet", r"unknown backbone 'alexnet'; torchvision has it: torchvision:alexnet"),
        ("torchvision:resnet81", r"did you mean torchvision:resnet18"),
        ("resnet18.a1_in2k", r"unknown weights tag .*; did you mean resnet18.a1_in1k"),
    ],
)
def test_find_backbone__suggests_close_names(name, message):
    with pytest.raises(UnknownNameError, match=message):
        find_backbone(name)


def test_find_backbone__a_tag_brings_its_own_preprocessing():
    default, tagged = find_backbone("resnet18"), find_backbone("resnet18.tv_in1k")

    assert (default.config["tag"], default.config["interpolation"]) == ("a1_in1k", "bicubic")
    assert (tagged.config["tag"], tagged.config["interpolation"]) == ("tv_in1k", "bilinear")


def test_weights_file__that_was_never_published_is_an_error():
    with pytest.raises(WeightsError, match="no published weights for test_resnet2; take a"):
        Origin(TIMM, "test_resnet2", {}).weights_file()
