"""Features of any layer: equal to the library's own, for stages, modules and every pooling."""

import pytest
import torch
from untrained import create_tiled

from transferkit.data.preprocessing import Preprocessing
from transferkit.errors import OptionError, UnknownNameError
from transferkit.models.anatomy.layer_table import list_layers
from transferkit.models.feature_extractor import FeatureExtractor, Pool

NARROW = {name: {"mlp_ratio": 1 / 64} for name in ("vgg11", "vgg19")}
"""Model arguments that remove 100 million parameters from the layers before the head."""


def network_of(name: str, size: int = 64):
    return create_tiled(name, image_size=size, model_args=NARROW.get(name))


def images_for(network, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, *network.preprocessing.input_size, generator=generator)


@pytest.mark.parametrize(
    "name", ["vgg19", "resnet18", "densenet121", "convnext_tiny", "vit_tiny_patch16_224"]
)
@torch.no_grad()
def test_features__equal_those_of_timm(name):
    network = network_of(name)
    images = images_for(network, 2)
    last_map = network.module.forward_features(images)
    prelogits = network.module.forward_head(last_map, pre_logits=True)

    maps = FeatureExtractor(network, ("pooled",), Pool.NONE)(images)
    pooled = FeatureExtractor(network)(images)
    head_input = FeatureExtractor(network, ("prelogits",))(images)
    one_by_one = torch.cat([FeatureExtractor(network)(image[None]) for image in images])

    own = last_map[:, 0] if last_map.ndim == 3 else last_map.mean(dim=(2, 3))
    torch.testing.assert_close(maps, last_map, rtol=0, atol=1e-5)
    torch.testing.assert_close(head_input, prelogits, rtol=0, atol=1e-5)
    torch.testing.assert_close(pooled, own, rtol=0, atol=1e-5)
    torch.testing.assert_close(one_by_one, pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "layer", "module"),
    [
        ("resnet18", "stem", "maxpool"),
        ("resnet18", "stage3", "layer3"),
        ("resnet18", "stage4", "layer4"),
        ("vgg11", "stage1", "features.5"),
        ("convnext_atto", "stage4", "stages.3"),
        ("vit_tiny_patch16_224", "stage2", "blocks.1"),
        ("mobilenetv3_small_050", "stage5", "act2"),
        ("torchvision:resnet18", "stage2", "layer2"),
        ("test_resnet", "head", "fc"),
    ],
)
def test_layer__of_a_stage_is_the_output_of_its_last_module(name, layer, module):
    network = network_of(name)
    images = images_for(network)
    by_stage, by_module = (
        FeatureExtractor(network, (each,), Pool.FLATTEN)(images) for each in (layer, module)
    )

    if name.startswith("mobilenetv3"):  # the norm and activation after the last convolution
        assert by_stage.shape == by_module.shape
    else:
        assert torch.equal(by_stage, by_module)


@torch.no_grad()
def test_layer__is_copied_before_the_next_module_works_in_place():
    network = network_of("torchvision:resnet18")
    images = images_for(network)
    kept = []
    hook = network.module.layer1[0].bn1.register_forward_hook(
        lambda _, __, out: kept.append(out.clone())
    )
    network.module(images)
    hook.remove()

    taken = FeatureExtractor(network, ("layer1.0.bn1",), Pool.NONE)(images)

    assert kept[0].min() < 0  # the ReLU that follows would leave no negative values
    assert torch.equal(taken, kept[0])


@torch.no_grad()
def test_layers__are_concatenated_and_named():
    network = network_of("test_resnet")
    images = images_for(network)
    extractor = FeatureExtractor(network, ("stage2", "prelogits"), Pool.MAX)
    features = extractor(images)
    alone = [FeatureExtractor(network, (n,), Pool.MAX)(images) for n in ("stage2", "prelogits")]

    assert torch.equal(features, torch.cat(alone, dim=1))
    assert extractor.shape == features.shape[1:] == (len(extractor.columns),)
    assert extractor.columns[0] == "stage2_0"
    assert extractor.columns[alone[0].shape[1]] == "prelogits_0"


@torch.no_grad()
def test_pool__follows_its_formula():
    network = network_of("resnet18")
    images = images_for(network)
    x = network.module.forward_features(images)
    expected = {
        Pool.AUTO: x.mean(dim=(2, 3)),
        Pool.AVG: x.mean(dim=(2, 3)),
        Pool.MAX: x.amax(dim=(2, 3)),
        Pool.GEM: x.clamp(min=1e-6).pow(3).mean(dim=(2, 3)).pow(1 / 3),
        Pool.FLATTEN: x.flatten(1),
        Pool.NONE: x,
    }

    assert set(expected) == set(Pool)
    for pool, value in expected.items():
        pooled = FeatureExtractor(network, pool=pool)(images)
        torch.testing.assert_close(pooled, value, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_pool__averages_tokens_without_the_class_token():
    network = network_of("vit_tiny_patch16_224")
    images = images_for(network)
    tokens = network.module.forward_features(images)

    assert torch.equal(FeatureExtractor(network)(images), tokens[:, 0])
    mean = FeatureExtractor(network, pool=Pool.AVG)(images)
    torch.testing.assert_close(mean, tokens[:, 1:].mean(dim=1), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_pool__handles_maps_with_channels_last():
    network = network_of("swin_tiny_patch4_window7_224", 224)
    images = images_for(network, 1)
    last_map = network.module.forward_features(images)

    pooled = FeatureExtractor(network)(images)

    assert last_map.shape == (1, 7, 7, 768)
    torch.testing.assert_close(pooled, last_map.mean(dim=(1, 2)), rtol=1e-5, atol=1e-6)


def test_layer__with_more_than_one_row_per_image_is_refused():
    network = network_of("swin_tiny_patch4_window7_224", 56)

    with pytest.raises(OptionError, match="outputs no feature map, tokens or vector per image"):
        FeatureExtractor(network, ("layers.0.blocks.0.attn",))
    assert not {row.name: row for row in list_layers(network)}["layers.0.blocks.0.attn"].extractable


@torch.no_grad()
def test_pool__averages_all_tokens_without_a_class_token():
    network = network_of("vit_tiny_patch16_224")
    images = images_for(network)
    tokens = network.module.patch_embed(images)

    assert tokens.shape[1] == 16
    for pool in (Pool.AUTO, Pool.AVG):
        pooled = FeatureExtractor(network, ("patch_embed",), pool)(images)
        torch.testing.assert_close(pooled, tokens.mean(dim=1), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_maps__are_the_layers_own_tokens_in_a_grid_with_channels_first():
    vit, swin = (
        network_of("vit_tiny_patch16_224", 96),
        network_of("swin_tiny_patch4_window7_224", 224),
    )
    images, large = images_for(vit, 2), images_for(swin, 1)

    maps = FeatureExtractor(vit, ("pooled", "patch_embed", "blocks.1.mlp.fc1")).maps(images)
    tokens = vit.module.forward_features(images)[:, 1:]
    patches = vit.module.patch_embed.proj(images)

    assert {name: tuple(m.shape) for name, m in maps.items()} == {
        "pooled": (2, 192, 6, 6),
        "patch_embed": (2, 192, 6, 6),
        "blocks.1.mlp.fc1": (2, 768, 6, 6),
    }
    torch.testing.assert_close(maps["patch_embed"], patches)
    torch.testing.assert_close(maps["pooled"].flatten(2).transpose(1, 2), tokens)
    assert FeatureExtractor(swin, ("stage1",)).maps(large)["stage1"].shape == (1, 96, 56, 56)
    assert FeatureExtractor(vit, ("prelogits",)).maps(images)["prelogits"].shape == (2, 192, 1, 1)


def test_layer__of_an_unknown_name_gets_suggestions():
    with pytest.raises(UnknownNameError, match=r"unknown layer 'stage9'; did you mean stage"):
        FeatureExtractor(network_of("test_resnet"), ("stage9",))


def test_layer__that_no_image_passes_through_is_an_error():
    with pytest.raises(OptionError, match="no image passes through"):
        FeatureExtractor(network_of("mvitv2_tiny"), ("stages.0.blocks",))


def test_layers__of_unpooled_maps_cannot_be_joined():
    with pytest.raises(OptionError, match="--pool none: maps of several layers"):
        FeatureExtractor(network_of("test_resnet"), ("stem", "stage1"), Pool.NONE)


def test_image_size__unlike_that_of_pretraining_works_or_says_why_not():
    network = network_of("resnet18", 224)
    larger = network.with_preprocessing(network.preprocessing.changed(image_size=320, resize=None))

    assert FeatureExtractor(larger, ("stage4",), Pool.NONE).shape == (512, 10, 10)
    with pytest.raises(OptionError, match=r"cannot (be built for|take images of)"):
        network_of("vit_tiny_patch16_224", 10)
    assert isinstance(larger.preprocessing, Preprocessing)
