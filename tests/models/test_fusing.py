"""Networks cut in two, and copies with fused norms: they compute what the network does."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from transferkit.devices import Precision
from transferkit.inference import ComputeSettings, fast_extractor, fast_module, probabilities
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.models.freezing import BatchNorm, freeze, train_mode
from transferkit.models.fusing import inference_copy
from transferkit.models.phases import Unfreeze
from transferkit.models.sources import create_network
from transferkit.models.splitting import split

SPLIT = {
    "resnet18": ("resnet18", 32),
    "densenet (torchvision)": ("torchvision:densenet121", 32),
    "squeezenet (torchvision)": ("torchvision:squeezenet1_1", 64),
    "mobilenet v2": ("mobilenetv2_050", 32),
    "convnext": ("convnext_atto", 32),
    "vit": ("vit_tiny_patch16_224", 32),
    "vit with rotary positions": ("eva02_tiny_patch14_224", 28),
    "swin": ("swin_tiny_patch4_window7_224", 56),
    "edges8": ("edges8", 64),
}


def network_of(name, size, **changes):
    torch.manual_seed(0)
    weights = "pretrained" if name == "edges8" else "none"
    network = create_network(name, weights=weights, num_classes=5, image_size=size, **changes)
    with torch.no_grad():
        for key, buffer in network.module.named_buffers():  # not the 0 and 1 that norms begin with
            if key.endswith("running_mean"):
                buffer.copy_(0.1 * torch.randn_like(buffer))
            elif key.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand_like(buffer))
    return network


def frozen(network, unfreeze):
    stages = Unfreeze(unfreeze).stages(network)
    trained = {name for stage in stages for name in stage.parameters}
    freeze(network.module, trained)
    train_mode(network.module, BatchNorm.TRAIN)
    return trained


@pytest.mark.parametrize("unfreeze", ["head", "last:1"])
@pytest.mark.parametrize("name", SPLIT)
def test_split__the_parts_do_together_what_the_network_does(name, unfreeze):
    network = network_of(*SPLIT[name])
    trained = frozen(network, unfreeze)
    parts = split(network, trained)
    if name == "edges8" and unfreeze == "last:1":
        assert parts is None  # its only stage reads the pictures
        return

    held = {id(p) for p in parts.suffix.parameters()}
    assert {n for n, p in network.module.named_parameters() if id(p) in held} >= trained
    assert not any(p.requires_grad for p in parts.prefix.parameters())
    images = torch.rand(3, *network.preprocessing.input_size)
    network.module.eval()
    with torch.no_grad():
        crossing = parts.prefix(images)
        assert crossing.shape[1:] == parts.shape
        assert torch.equal(parts.suffix(crossing), network.module(images))


def test_split__follows_the_modes_and_weights_of_the_network():
    network = network_of("mobilenetv2_050", 32)
    parts = split(network, frozen(network, "last:1"))
    crossing = torch.rand(4, *parts.shape)
    network.module.eval()
    before = parts.suffix(crossing)

    train_mode(network.module, BatchNorm.TRAIN)
    assert not torch.equal(parts.suffix(crossing), before)
    network.module.eval()
    with torch.no_grad():
        for parameter in network.module.get_classifier().parameters():
            parameter.zero_()
    assert not parts.suffix(crossing).any()


def test_split__cuts_by_single_parameters_too():
    network = network_of("resnet18", 32)
    parts = split(network, frozen(network, r"re:layer3\.1\.conv1"))

    assert parts.shape == (256, 2, 2)


@pytest.mark.parametrize(
    ("name", "unfreeze"), [("twins_svt_small", "head"), ("resnet18", "all"), ("hrnet", "last:1")]
)
def test_split__gives_none_where_it_cannot_be_done(name, unfreeze):
    network = network_of("hrnet_w18_small" if name == "hrnet" else name, 64)

    assert split(network, frozen(network, unfreeze)) is None


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_050", "densenet121"])
def test_inference_copy__fuses_norms_and_computes_the_same(name):
    network = network_of(name, 32)
    copy = inference_copy(network.module, torch.float32)
    images = torch.rand(2, 3, 32, 32)

    with torch.no_grad():
        expected = network.module(images)
        assert torch.allclose(copy(images), expected, rtol=1e-3, atol=1e-4 * expected.abs().max())
        assert torch.equal(network.module(images), expected)
    norms = [
        sum(isinstance(m, nn.BatchNorm2d) for m in x.modules()) for x in (network.module, copy)
    ]
    assert norms[1] < norms[0]
    assert {n for n, _ in network.module.named_modules()} <= {n for n, _ in copy.named_modules()}


def test_inference_copy__keeps_what_is_looked_into():
    network = network_of("resnet18", 32)
    extractor = FeatureExtractor(network, ("layer2.0.conv1", "layer2.0.bn1"))
    copy = inference_copy(network.module, torch.float32, extractor.inner_modules)
    other = FeatureExtractor(replace(network, module=copy), extractor.layers)
    images = torch.rand(2, 3, 32, 32)

    with torch.no_grad():
        assert torch.allclose(other(images), extractor(images), rtol=1e-3, atol=1e-4)


class MixesTypes(nn.Module):
    """What it makes itself is float32, whatever its weights are."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x + torch.ones(4))


def how(precision):
    return ComputeSettings(torch.device("cpu"), precision, batch_size=4, workers=1)


def test_fast_module__is_the_module_itself_in_fp32_and_where_a_copy_would_fail():
    module = MixesTypes()

    assert fast_module(module, torch.zeros(1, 4), how(Precision.FP32))[0] is module
    assert fast_module(module, torch.zeros(1, 4), how(Precision.BF16)) == (module, torch.float32)
    copy, dtype = fast_module(module.layer, torch.zeros(1, 4), how(Precision.BF16))
    assert copy is not module.layer
    assert dtype is torch.bfloat16


def test_bf16__gives_the_labels_of_fp32_on_real_pictures(shared):
    weights = shared / "weights/resnet18.safetensors"
    network = create_network("resnet18", weights=weights)
    files = sorted(shared.glob("data/imagenet_sample/**/*.jp*g"))[:64]
    exact, fast = (
        torch.cat([torch.from_numpy(part.values)
                   for part in probabilities(network, files, how(precision))])
        for precision in (Precision.FP32, Precision.BF16)
    )  # fmt: skip

    cosine = torch.cosine_similarity(exact.log(), fast.log(), dim=1)
    assert cosine.min() > 0.999
    assert (exact.argmax(dim=1) == fast.argmax(dim=1)).float().mean() > 0.95


def test_bf16__features_are_those_of_fp32(image_folder):
    extractor = FeatureExtractor(network_of("resnet18", 32), ("layer2.0.conv1", "stage3", "pooled"))
    images = torch.rand(4, 3, 32, 32)
    fast = fast_extractor(extractor, how(Precision.BF16))

    with torch.no_grad():
        exact, near = extractor(images), fast(images.bfloat16())
    assert near.dtype is torch.float32
    assert torch.cosine_similarity(exact, near, dim=1).min() > 0.999
