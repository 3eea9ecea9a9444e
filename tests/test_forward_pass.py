"""Passes without gradient: every engine computes what torch does, whatever the batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from untrained import create_random

from transferkit.compute import ComputeSettings
from transferkit.devices import Precision
from transferkit.engines import Engine
from transferkit.errors import EngineError
from transferkit.forward_pass import (
    Computation,
    create_pass,
    fast_module,
    features_of,
    logits_of,
    prefix_of,
)
from transferkit.models.create_network import create_network
from transferkit.models.feature_extractor import FeatureExtractor, Pool
from transferkit.models.network_cut import cut_network
from transferkit.network_outputs import probabilities_in_parts

CPU = torch.device("cpu")
CONVERTED = (Engine.OPENVINO, Engine.ONNXRUNTIME)


class MixesTypes(nn.Module):
    """A module that creates float32 tensors whatever the type of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x + torch.ones(4))


def settings_for(precision=Precision.FP32, engine=Engine.TORCH, notices=None):
    told = [] if notices is None else notices
    return ComputeSettings(CPU, precision, 4, 1, engine=engine, notice=told.append)


def pixels_for(network, count):
    size = network.preprocessing.input_size[1:]
    return np.random.default_rng(count).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def distance(values, expected):
    """Return the largest distance of two rows, relative to the expected one."""
    values, expected = (np.reshape(rows, (len(rows), -1)) for rows in (values, expected))
    return (np.linalg.norm(values - expected, axis=1) / np.linalg.norm(expected, axis=1)).max()


def test_fast_module__is_the_module_itself_in_fp32_and_if_a_copy_would_fail():
    module, bf16 = MixesTypes(), settings_for(Precision.BF16)

    assert fast_module(module, torch.zeros(1, 4), settings_for())[0] is module
    assert fast_module(module, torch.zeros(1, 4), bf16) == (module, torch.float32)
    copy, dtype = fast_module(module.layer, torch.zeros(1, 4), bf16)
    assert copy is not module.layer
    assert dtype is torch.bfloat16


def test_bf16__gives_the_labels_of_fp32_on_real_images(shared):
    weights = shared / "weights/resnet18.safetensors"
    network = create_network("resnet18", weights=weights, image_size=128)
    files = sorted(shared.glob("data/imagenet_sample/**/*.jp*g"))[:16]
    exact, fast = (
        torch.cat([torch.from_numpy(part.values)
                   for part in probabilities_in_parts(network, settings_for(precision))(files)])
        for precision in (Precision.FP32, Precision.BF16)
    )  # fmt: skip

    cosine = torch.cosine_similarity(exact.log(), fast.log(), dim=1)
    assert cosine.min() > 0.999
    assert (exact.argmax(dim=1) == fast.argmax(dim=1)).all()


def test_bf16__features_are_those_of_fp32():
    layers = ("layer2.0.conv1", "stage3", "pooled")
    features = features_of(FeatureExtractor(create_random("resnet18", 32), layers))
    pixels = pixels_for(features.network, 4)

    exact, near = (
        create_pass(features, settings_for(precision)).values(pixels)
        for precision in (Precision.FP32, Precision.BF16)
    )

    assert near.dtype == np.float32
    assert 0 < distance(near, exact) < 0.05


@pytest.mark.parametrize("engine", CONVERTED)
@pytest.mark.parametrize(
    ("layers", "pool"),
    [
        (("pooled",), Pool.AUTO),
        (("prelogits",), Pool.AUTO),
        (("stage1", "layer2.0.conv1"), Pool.GEM),
        (("stage2",), Pool.NONE),
        (("head",), Pool.MAX),
    ],
)
def test_engines__give_the_features_of_torch_at_any_layer(engine, layers, pool):
    features = features_of(FeatureExtractor(create_random("test_resnet", 32), layers, pool))
    pixels = pixels_for(features.network, 7)

    torchs = create_pass(features, settings_for()).values(pixels)
    theirs = create_pass(features, settings_for(engine=engine)).values(pixels)

    assert theirs.shape == torchs.shape
    assert distance(theirs, torchs) < 1e-5


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("tf_efficientnet_lite0", 32),
        ("convnext_atto", 32),
        ("vit_tiny_patch16_224", 32),
        ("test_nfnet", 96),
    ],
)
def test_openvino__gives_the_features_of_torch_in_any_family(name, size):
    """All families of the contract are tried by a slow test there."""
    features = features_of(FeatureExtractor(create_random(name, size)))
    pixels = pixels_for(features.network, 5)

    torchs = create_pass(features, settings_for()).values(pixels)
    openvinos = create_pass(features, settings_for(engine=Engine.OPENVINO)).values(pixels)

    assert distance(openvinos, torchs) < 1e-5


@pytest.fixture(scope="module")
def passes():
    computation = logits_of(create_random("test_resnet", 32))
    return {e: create_pass(computation, settings_for(engine=e)) for e in (*CONVERTED, Engine.TORCH)}


@pytest.mark.parametrize("engine", CONVERTED)
@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 23), data=st.data())
def test_engines__rows_depend_on_their_image_alone(passes, engine, count, data):
    pixels = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    order = np.array(data.draw(st.permutations(range(count))))
    cut = data.draw(st.integers(0, count))

    whole = passes[engine].values(pixels)
    parts = [passes[engine].values(part) for part in (pixels[order[:cut]], pixels[order[cut:]])
             if len(part)]  # fmt: skip

    assert np.array_equal(np.concatenate(parts), whole[order])
    assert distance(whole, passes[Engine.TORCH].values(pixels)) < 1e-5


@pytest.mark.parametrize("size", [(32, 48), (40, 32), (65, 33)])
def test_engines__take_images_of_any_shape(size):
    network = create_random("test_resnet", size)
    pixels = pixels_for(network, 3)

    torchs, openvinos = (
        create_pass(logits_of(network), settings_for(engine=engine)).values(pixels)
        for engine in (Engine.TORCH, Engine.OPENVINO)
    )

    assert distance(openvinos, torchs) < 1e-5


def test_create_pass__leaves_the_modes_of_a_network_as_they_were():
    network = create_random("test_resnet", 32)
    network.module.requires_grad_(False)
    network.module.get_submodule(network.heads[0]).requires_grad_(True)
    trained = [n for n, p in network.module.named_parameters() if p.requires_grad]
    network.module.get_submodule(network.heads[0]).train()
    cut = cut_network(network, trained)
    modes = [module.training for module in network.module.modules()]

    create_pass(prefix_of(network, cut), settings_for(engine=Engine.OPENVINO))

    assert [module.training for module in network.module.modules()] == modes


def test_create_pass__converts_a_network_once(monkeypatch):
    network = create_random("test_resnet", 40)
    pixels = pixels_for(network, 2)
    first = create_pass(logits_of(network), settings_for(engine=Engine.OPENVINO)).values(pixels)
    monkeypatch.setattr("transferkit.forward_pass.convert", lambda *_: pytest.fail("converts"))

    again = create_pass(logits_of(network), settings_for(engine=Engine.OPENVINO)).values(pixels)
    assert np.array_equal(again, first)

    with torch.no_grad():
        next(network.module.parameters()).add_(1)
    with pytest.raises(pytest.fail.Exception):
        create_pass(logits_of(network), settings_for(engine=Engine.OPENVINO))


def test_create_pass__converts_again_what_is_damaged_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFERKIT_CACHE", str(tmp_path))
    computation = logits_of(create_random("test_resnet", 32))
    pixels = pixels_for(computation.network, 2)
    first = create_pass(computation, settings_for(engine=Engine.OPENVINO)).values(pixels)
    (file,) = tmp_path.glob("*/model.onnx")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])

    again = create_pass(computation, settings_for(engine=Engine.OPENVINO)).values(pixels)

    assert np.array_equal(again, first)
    assert file.read_bytes() == whole


class Branches(nn.Module):
    """A module whose control flow depends on its input, so that a trace of it is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        values = self.layer(x).mean(dim=(2, 3))
        return values if x.max() < 0 else -3 * values


def test_create_pass__refuses_an_engine_whose_results_are_wrong():
    network = create_random("test_resnet", 48)
    computation, notices = Computation(network, Branches(), "branches"), []

    with pytest.raises(EngineError, match="--engine openvino: test_resnet: its results differ"):
        create_pass(computation, settings_for(engine=Engine.OPENVINO))
    fallen_back = create_pass(computation, settings_for(engine=Engine.AUTO, notices=notices))

    assert fallen_back.engine is Engine.TORCH
    assert "torch computes branches, because for openvino its results differ" in notices[0]


def test_create_pass__refuses_what_cannot_be_converted(monkeypatch):
    class Untraceable(nn.Module):
        def forward(self, x):
            raise RuntimeError("no way through")

    computation = Computation(create_random("test_resnet", 32), Untraceable(), "untraceable")

    with pytest.raises(EngineError, match="cannot be converted to ONNX: no way through"):
        create_pass(computation, settings_for(engine=Engine.OPENVINO))


def test_create_pass__in_bf16_keeps_half_the_bytes_and_nearly_the_values():
    computation = logits_of(create_random("test_resnet", 32))
    pixels = pixels_for(computation.network, 5)
    exact = create_pass(computation, settings_for()).values(pixels)

    fast = create_pass(computation, settings_for(Precision.BF16, Engine.OPENVINO))

    assert fast.dtype is torch.bfloat16
    assert distance(fast.values(pixels), exact) < 0.02
