"""Features of any layer: the library's own values, one meaning of a stage, every pooling."""

import pytest
import torch

from transferkit.data.preprocessing import Preprocessing
from transferkit.errors import OptionError, UnknownNameError
from transferkit.models.backbones import create_network
from transferkit.models.features import FeatureExtractor, Pool
from transferkit.models.layer_table import list_layers


def network_of(name: str, size: int = 64):
    torch.manual_seed(0)
    return create_network(name, weights="none", image_size=size)


def images_for(network, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, *network.preprocessing.input_size, generator=generator)


@pytest.mark.parametrize(
    "name", ["vgg19", "resnet18", "densenet121", "convnext_tiny", "vit_tiny_patch16_224"]
)
@torch.no_grad()
def test_features__are_timms_own(name):
    network = network_of(name)
    images = images_for(network, 2)
    last_map = network.module.forward_features(images)
    prelogits = network.module.forward_head(last_map, pre_logits=True)

    maps = FeatureExtractor(network, ("pooled",), Pool.NONE)(images)
    pooled = FeatureExtractor(network)(images)
    entering = FeatureExtractor(network, ("prelogits",))(images)
    one_by_one = torch.cat([FeatureExtractor(network)(image[None]) for image in images])

    own = last_map[:, 0] if last_map.ndim == 3 else last_map.mean(dim=(2, 3))
    torch.testing.assert_close(maps, last_map, rtol=0, atol=1e-5)
    torch.testing.assert_close(entering, prelogits, rtol=0, atol=1e-5)
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
def test_layer__a_stage_is_what_enters_the_next_one(name, layer, module):
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
def test_layer__is_copied_before_what_follows_works_in_place():
    network = network_of("torchvision:resnet18")
    images = images_for(network)
    kept = []
    hook = network.module.layer1[0].bn1.register_forward_hook(
        lambda _, __, out: kept.append(out.clone())
    )
    network.module(images)
    hook.remove()

    taken = FeatureExtractor(network, ("layer1.0.bn1",), Pool.NONE)(images)

    assert kept[0].min() < 0  # the ReLU that follows would have left none
    assert torch.equal(taken, kept[0])


@torch.no_grad()
def test_layers__stand_side_by_side_with_names():
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
def test_pool__each_is_its_formula():
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
def test_pool__means_of_tokens_leave_the_class_token_out():
    network = network_of("vit_tiny_patch16_224")
    images = images_for(network)
    tokens = network.module.forward_features(images)

    assert torch.equal(FeatureExtractor(network)(images), tokens[:, 0])
    mean = FeatureExtractor(network, pool=Pool.AVG)(images)
    torch.testing.assert_close(mean, tokens[:, 1:].mean(dim=1), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_pool__knows_maps_with_the_channels_last():
    network = create_network("swin_tiny_patch4_window7_224", weights="none")
    images = images_for(network, 1)
    last_map = network.module.forward_features(images)

    pooled = FeatureExtractor(network)(images)

    assert last_map.shape == (1, 7, 7, 768)
    torch.testing.assert_close(pooled, last_map.mean(dim=(1, 2)), rtol=1e-5, atol=1e-6)


def test_layer__with_more_than_a_row_a_picture_is_refused_and_not_listed():
    network = create_network("swin_tiny_patch4_window7_224", weights="none")

    with pytest.raises(OptionError, match="puts out no feature map, tokens or vector of each"):
        FeatureExtractor(network, ("layers.0.blocks.0.attn",))
    assert "layers.0.blocks.0.attn" not in {row.name for row in list_layers(network)}


@torch.no_grad()
def test_pool__tokens_without_a_class_token_are_all_averaged():
    network = network_of("vit_tiny_patch16_224")
    images = images_for(network)
    tokens = network.module.patch_embed(images)

    assert tokens.shape[1] == 16
    for pool in (Pool.AUTO, Pool.AVG):
        pooled = FeatureExtractor(network, ("patch_embed",), pool)(images)
        torch.testing.assert_close(pooled, tokens.mean(dim=1), rtol=1e-5, atol=1e-6)


def test_list_layers__names_only_what_can_be_taken():
    two_branches = create_network("crossvit_9_240", weights="none")
    shuffled = network_of("torchvision:shufflenet_v2_x0_5")
    names = [row.name for row in list_layers(shuffled)]

    assert "pooled" not in {row.name for row in list_layers(two_branches)}
    assert len(names) == len(set(names))
    for row in list_layers(network_of("test_resnet")):
        taken = FeatureExtractor(network_of("test_resnet"), (row.name,), Pool.NONE).shape
        assert row.name == "pooled" or taken == row.output


def test_layer__an_unknown_one_is_told_with_close_names():
    with pytest.raises(UnknownNameError, match=r"unknown layer 'stage9'; did you mean stage"):
        FeatureExtractor(network_of("test_resnet"), ("stage9",))


def test_layer__that_no_picture_goes_through_is_told():
    with pytest.raises(OptionError, match="no picture goes through"):
        FeatureExtractor(network_of("mvitv2_tiny"), ("stages.0.blocks",))


def test_layers__of_maps_cannot_stand_side_by_side():
    with pytest.raises(OptionError, match="--pool none: maps of several layers"):
        FeatureExtractor(network_of("test_resnet"), ("stem", "stage1"), Pool.NONE)


def reached(network, layer: str) -> tuple[int, int]:
    """Height and width of what the middle of a map depends on, by gradients."""
    for module in network.module.modules():
        # With positive weights and nothing cut off, no path to the input can cancel or die.
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.uniform_(module.weight, 0.05, 0.15)
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # timm's ResNet begins with some at zero
    taken = []
    module = network.module.get_submodule(layer)
    handle = module.register_forward_hook(lambda _, __, out: taken.append(out))
    image = torch.rand(1, *network.preprocessing.input_size, requires_grad=True)
    network.module(image)
    handle.remove()
    out = taken[-1]
    out[0, :, out.shape[2] // 2, out.shape[3] // 2].sum().backward()
    seen = image.grad[0].abs().sum(dim=0) > 0
    rows, columns = seen.any(dim=1).nonzero(), seen.any(dim=0).nonzero()
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1


def without_selection(module: torch.nn.Module) -> None:
    """Make each maximum a mean, which depends on all that it looks at."""
    for name, child in module.named_children():
        if isinstance(child, torch.nn.MaxPool2d):
            mean = torch.nn.AvgPool2d(
                child.kernel_size, child.stride, child.padding, child.ceil_mode
            )
            setattr(module, name, mean)
        else:
            without_selection(child)


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        ("resnet18", 128, "layer1"),
        ("resnet18", 224, "layer2"),
        ("torchvision:alexnet", 224, "features.10"),
        ("torchvision:googlenet", 160, "inception3b"),
        ("densenet121", 160, "features.denseblock1"),
        ("convnext_atto", 160, "stages.0"),
    ],
)
def test_list_layers__receptive_field_is_what_gradients_reach(name, size, layer):
    network = network_of(name, size)
    rows = {row.name: row for row in list_layers(network)}
    without_selection(network.module)

    told = rows[layer].receptive_field
    assert told is not None
    assert 10 < told < size
    assert reached(network, layer) == (told, told)


def test_list_layers__shapes_parameters_and_strides():
    network = network_of("resnet18", 224)
    rows = {row.name: row for row in list_layers(network)}
    total = sum(p.numel() for p in network.module.parameters())

    assert rows["stage4"].output == (512, 7, 7)
    assert (rows["stage4"].stride, rows["stage4"].receptive_field) == (32, 435)
    assert rows["pooled"].output == (512,)
    assert rows["conv1"].parameters == 9408
    stages = [row.parameters for name, row in rows.items() if name in known_stages(network)]
    assert sum(stages) == total
    assert list(rows)[-1] == "fc"


def known_stages(network) -> list[str]:
    return [stage.name for stage in network.stages]


def test_list_layers__attention_and_gates_see_the_whole_picture():
    vit = {row.name: row for row in list_layers(network_of("vit_tiny_patch16_224"))}
    gated = {row.name: row for row in list_layers(network_of("efficientnet_b0"))}
    mixer = {row.name: row for row in list_layers(network_of("mixer_s32_224", 224))}

    assert (vit["stem"].receptive_field, vit["stage1"].receptive_field) == (16, None)
    assert (gated["stem"].receptive_field, gated["stage1"].receptive_field) == (3, None)
    assert gated["stage5"].stride == 32
    assert mixer["stage1"].receptive_field is None


def test_image_size__another_than_the_pretraining_size_works_or_says_why_not():
    network = network_of("resnet18", 224)
    larger = network.with_preprocessing(network.preprocessing.changed(image_size=320, resize=None))

    assert FeatureExtractor(larger, ("stage4",), Pool.NONE).shape == (512, 10, 10)
    with pytest.raises(OptionError, match=r"cannot (be built for|read pictures of)"):
        network_of("vit_tiny_patch16_224", 10)
    assert isinstance(larger.preprocessing, Preprocessing)
