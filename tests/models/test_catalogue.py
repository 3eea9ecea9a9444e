"""The list of all backbones."""

from transferkit.models.catalogue import list_backbones


def test_list_backbones__has_both_libraries_and_default_weights_first():
    entries = {entry.name: entry for entry in list_backbones()}

    assert entries["resnet18"].weights[0] == "a1_in1k"
    assert entries["torchvision:alexnet"].weights == ("imagenet1k_v1",)
    assert len(entries) > 1000
