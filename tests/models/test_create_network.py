"""Networks: features, heads and categories work alike for every library."""

import pytest
import timm
import torch
from torch import nn
from untrained import create_tiled

from transferkit.errors import OptionError, UnknownNameError, WeightsError
from transferkit.models.create_network import categories, create_network

NARROW = {"vgg11": {"mlp_ratio": 1 / 64}}
"""Model arguments that remove 100 million parameters from the layers before the head."""

FAMILIES = [
    ("resnet18", 32, 512),
    ("vgg11", 32, 4096),
    ("densenet121", 32, 1024),
    ("convnext_atto", 32, 320),
    ("inception_v3", 80, 2048),
    ("vit_tiny_patch16_224", 32, 192),
    ("deit_tiny_distilled_patch16_224", 32, 192),
    ("torchvision:alexnet", 64, 4096),
    ("torchvision:googlenet", 64, 1024),
    ("torchvision:inception_v3", 80, 2048),
    ("torchvision:squeezenet1_1", 64, 512),
    ("torchvision:mobilenet_v3_small", 32, 1024),
]


@pytest.mark.parametrize(("name", "size", "feature_dim"), FAMILIES)
@torch.no_grad()
def test_network__keeps_its_features_under_a_new_head(name, size, feature_dim):
    """Also, a new head has the requested width."""
    network = create_tiled(name, image_size=size, model_args=NARROW.get(name))
    images = torch.rand(2, *network.preprocessing.input_size)
    before = network.features(images)
    old_head = network.module(images)

    network = network.with_new_head(5)
    network.module.eval()
    logits = network.module(images)

    assert network.name == name
    assert before.shape == (2, feature_dim) == (2, network.feature_dim)
    assert old_head.shape == (2, 1000)
    assert logits.shape == (2, 5)
    assert network.num_classes == 5
    assert torch.equal(network.features(images), before)
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize(
    "name", ["resnet18", "vgg11", "convnext_atto", "densenet121", "torchvision:alexnet"]
)
@torch.no_grad()
def test_network__logits_are_the_head_of_the_features(name):
    network = create_tiled(name, num_classes=4, image_size=64, model_args=NARROW.get(name))
    network.module.eval()
    images = torch.rand(2, *network.preprocessing.input_size)
    (head,) = (network.module.get_submodule(h) for h in network.heads)

    torch.testing.assert_close(head(network.features(images)), network.module(images))


def test_create_network__builds_for_another_image_size():
    network = create_network("vit_tiny_patch16_224", weights="none", image_size=64)

    assert network.preprocessing.input_size == (3, 64, 64)
    assert network.model_args == {"img_size": 64}


@pytest.mark.parametrize("name", ["torchvision:vit_b_16", "vit_tiny_patch16_224"])
def test_create_network__names_an_image_size_that_cannot_work(name):
    with pytest.raises(
        OptionError, match=r"--image-size: \S+ cannot (be built for|take images of) 9 "
    ):
        create_network(name, weights="none", image_size=9)


def test_create_network__names_model_args_that_cannot_work():
    with pytest.raises(
        WeightsError, match=r"^resnet18 cannot be built with .* model_args \{\"width\""
    ):
        create_network("resnet18", weights="none", model_args={"width": 7})


def test_create_network__keeps_the_pooling_of_model_args_with_a_timm_that_would_reset_it(
    monkeypatch,
):
    reset = timm.models.ResNet.reset_classifier

    def reset_to_mean(self, num_classes, global_pool="avg"):
        reset(self, num_classes, global_pool)

    monkeypatch.setattr(timm.models.ResNet, "reset_classifier", reset_to_mean)
    width = create_network("test_resnet", weights="none").feature_dim

    args = {"global_pool": "catavgmax"}
    network = create_network("test_resnet", weights="none", num_classes=3, model_args=args)
    assert network.module.fc.in_features == 2 * width


@torch.no_grad()
def test_backbone_digest__covers_all_tensors_except_the_heads():
    network = create_network("test_resnet", weights="none")
    before = network.backbone_digest()

    network = network.with_new_head(3)
    assert network.backbone_digest() == before
    network.module.get_buffer("bn1.running_mean").add_(1)
    assert network.backbone_digest() != before


def test_categories__are_imagenets_thousand_distinct_names():
    names = categories(create_network("test_resnet", weights="none"))

    assert (names[0], names[134], names[999]) == ("tench", "crane bird", "toilet tissue")
    assert len(set(names)) == 1000


def test_categories__of_a_new_head_are_unknown():
    with pytest.raises(UnknownNameError, match="unknown set of categories"):
        categories(create_network("test_resnet", weights="none", num_classes=7))


def test_with_new_head__refuses_a_head_that_is_not_linear():
    network = create_network("torchvision:alexnet", weights="none")
    network.module.classifier[6] = nn.Identity()

    with pytest.raises(TypeError, match="expected a linear layer"):
        network.with_new_head(3)
