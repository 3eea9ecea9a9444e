"""Fast copies of a network for inference: used only if they give the same results."""

import torch
from torch import nn
from untrained import create_random

from transferkit.devices import Precision
from transferkit.inference import ComputeSettings, fast_extractor, fast_module, probabilities
from transferkit.models.create_network import create_network
from transferkit.models.feature_extractor import FeatureExtractor


class MixesTypes(nn.Module):
    """A module that creates float32 tensors whatever the type of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x + torch.ones(4))


def settings_for(precision):
    return ComputeSettings(torch.device("cpu"), precision, batch_size=4, workers=1)


def test_fast_module__is_the_module_itself_in_fp32_and_if_a_copy_would_fail():
    module = MixesTypes()

    assert fast_module(module, torch.zeros(1, 4), settings_for(Precision.FP32))[0] is module
    assert fast_module(module, torch.zeros(1, 4), settings_for(Precision.BF16)) == (
        module,
        torch.float32,
    )
    copy, dtype = fast_module(module.layer, torch.zeros(1, 4), settings_for(Precision.BF16))
    assert copy is not module.layer
    assert dtype is torch.bfloat16


def test_bf16__gives_the_labels_of_fp32_on_real_images(shared):
    weights = shared / "weights/resnet18.safetensors"
    network = create_network("resnet18", weights=weights, image_size=128)
    files = sorted(shared.glob("data/imagenet_sample/**/*.jp*g"))[:16]
    exact, fast = (
        torch.cat([torch.from_numpy(part.values)
                   for part in probabilities(network, files, settings_for(precision))])
        for precision in (Precision.FP32, Precision.BF16)
    )  # fmt: skip

    cosine = torch.cosine_similarity(exact.log(), fast.log(), dim=1)
    assert cosine.min() > 0.999
    assert (exact.argmax(dim=1) == fast.argmax(dim=1)).all()


def test_bf16__features_are_those_of_fp32(image_folder):
    extractor = FeatureExtractor(
        create_random("resnet18", 32), ("layer2.0.conv1", "stage3", "pooled")
    )
    images = torch.rand(4, 3, 32, 32)
    fast = fast_extractor(extractor, settings_for(Precision.BF16))

    with torch.no_grad():
        exact, near = extractor(images), fast(images.bfloat16())
    assert near.dtype is torch.float32
    assert torch.cosine_similarity(exact, near, dim=1).min() > 0.999
