"""The contract of freezing and calibrating, on architectures of all families.

Stages divide the parameters; every phase changes exactly what it plans, buffers included; and the
outputs of frozen stages are bit-equal before and after. A temperature divides the logits.
"""

from contextlib import suppress
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from untrained import create_tiled, tiled

from transferkit.compute import ComputeSettings
from transferkit.devices import Precision
from transferkit.engines import Engine
from transferkit.forward_pass import create_pass, features_of
from transferkit.models.feature_extractor import POOLED, FeatureExtractor
from transferkit.models.fold_temperature import fold_temperature
from transferkit.models.freezing import BatchNorm, freeze, train_mode
from transferkit.models.stages import HEAD, Stage
from transferkit.models.strategies import Strategy, plan_phases
from transferkit.models.unfreeze import HEAD_ALONE
from transferkit.training.optimizer import create_optimizer

CPU = torch.device("cpu")

ARCHITECTURES = {
    "alexnet (torchvision)": ("torchvision:alexnet", 64),
    "vgg with batch norm": ("vgg11_bn", 32),
    "vgg without batch norm (torchvision)": ("torchvision:vgg11", 32),
    "squeezenet (torchvision)": ("torchvision:squeezenet1_1", 64),
    "googlenet (torchvision)": ("torchvision:googlenet", 64),
    "inception v3": ("inception_v3", 80),
    "inception v3 (torchvision)": ("torchvision:inception_v3", 80),
    "inception-resnet": ("inception_resnet_v2", 80),
    "xception": ("xception41", 64),
    "resnet": ("resnet18", 32),
    "resnet, bottlenecks": ("resnet26", 32),
    "resnet (torchvision)": ("torchvision:resnet18", 32),
    "resnext": ("resnext26ts", 32),
    "se-resnet": ("seresnet18", 32),
    "res2net": ("res2net50d", 32),
    "resnest": ("resnest14d", 32),
    "sknet": ("skresnet18", 32),
    "densenet": ("densenet121", 32),
    "densenet (torchvision)": ("torchvision:densenet121", 32),
    "dla": ("dla46_c", 32),
    "hrnet": ("hrnet_w18_small", 32),
    "vovnet": ("ese_vovnet19b_slim_dw", 64),
    "cspnet": ("cspresnet50", 32),
    "repvgg": ("repvgg_a0", 32),
    "nfnet": ("test_nfnet", 96),
    "regnet": ("regnetx_002", 32),
    "regnet (torchvision)": ("torchvision:regnet_y_400mf", 32),
    "byobnet": ("test_byobnet", 96),
    "mobilenet v2": ("mobilenetv2_050", 32),
    "mobilenet v2 (torchvision)": ("torchvision:mobilenet_v2", 32),
    "mobilenet v3": ("mobilenetv3_small_050", 32),
    "mobilenet v3 (torchvision)": ("torchvision:mobilenet_v3_small", 32),
    "mobilenet v4": ("mobilenetv4_conv_small_050", 32),
    "mnasnet (torchvision)": ("torchvision:mnasnet0_5", 32),
    "shufflenet (torchvision)": ("torchvision:shufflenet_v2_x0_5", 32),
    "ghostnet": ("ghostnet_050", 32),
    "efficientnet": ("efficientnet_b0", 32),
    "efficientnet-lite": ("tf_efficientnet_lite0", 32),
    "efficientnet (torchvision)": ("torchvision:efficientnet_b0", 32),
    "convnext": ("convnext_atto", 32),
    "convnext (torchvision)": ("torchvision:convnext_tiny", 32),
    "convnext v2": ("convnextv2_atto", 32),
    "convmixer": ("convmixer_768_32", 32),
    "edgenext": ("edgenext_xx_small", 64),
    "mambaout": ("test_mambaout", 96),
    "vit": ("vit_tiny_patch16_224", 32),
    "vit (torchvision)": ("torchvision:vit_b_16", 32),
    "deit, distilled": ("deit_tiny_distilled_patch16_224", 32),
    "eva": ("eva02_tiny_patch14_224", 28),
    "beit": ("beit_base_patch16_224", 32),
    "cait": ("cait_xxs24_224", 32),
    "swin": ("swin_tiny_patch4_window7_224", 56),
    "swin (torchvision)": ("torchvision:swin_t", 56),
    "maxvit": ("maxvit_rmlp_pico_rw_256", 64),
    "coatnet": ("coatnet_pico_rw_224", 64),
    "levit": ("levit_128s", 224),
    "mvit": ("mvitv2_tiny", 64),
    "twins": ("twins_svt_small", 64),
    "pvt": ("pvt_v2_b0", 32),
    "poolformer": ("poolformer_s12", 96),
    "mlp-mixer": ("mixer_s32_224", 64),
    "resmlp": ("resmlp_12_224", 64),
    "gmlp": ("gmlp_ti16_224", 64),
}

FEWER_BLOCKS = {
    "beit_base_patch16_224": {"depth": 4, "embed_dim": 192, "num_heads": 3},
    "cait_xxs24_224": {"depth": 4},
    "densenet121": {"block_config": (2, 2, 2, 2)},
    "maxvit_rmlp_pico_rw_256": {"depths": (1, 1, 1, 1)},
    "res2net50d": {"layers": (1, 1, 1, 1)},
    "resnet26": {"layers": (1, 1, 1, 1)},
    "skresnet18": {"layers": (1, 1, 1, 1)},
    "swin_tiny_patch4_window7_224": {"depths": (1, 1, 2, 1), "embed_dim": 48},
    "twins_svt_small": {"depths": (1, 1, 2, 1)},
    "vgg11_bn": {"mlp_ratio": 1 / 64},
}
"""Arguments that keep an architecture's structure but drop most of its parameters."""

WIDE = {"torchvision:alexnet", "torchvision:vgg11"}
"""Architectures whose fully connected layers hold nearly all parameters; tests narrow them."""

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

WITHOUT_GRADIENT = ("rel_pos.mlp.fc2.bias",)
"""Parameters that add one number to all logits of an attention, which softmax ignores."""


@pytest.fixture(scope="module", params=ARCHITECTURES)
def network(request):
    name, size = ARCHITECTURES[request.param]
    torch.manual_seed(0)
    args = FEWER_BLOCKS.get(name)
    network = create_tiled(name, num_classes=3, image_size=size, model_args=args)
    if name in WIDE:
        make_narrow(network.module.classifier)
    with torch.no_grad():
        for parameter in network.module.parameters():
            # Layer scales, heads and biases start at or near zero, which stops gradients.
            parameter.add_(tiled(parameter.shape), alpha=0.02)
    return network


def make_narrow(layers: nn.Sequential, width: int = 64) -> None:
    """Replace fully connected layers by narrow ones of the same names."""
    *hidden, head = (i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear))
    entering = layers[hidden[0]].in_features
    for i in hidden:
        layers[i], entering = nn.Linear(entering, width), width
    layers[head] = nn.Linear(width, layers[head].out_features)


def test_stages__divide_the_parameters(network):
    """Each parameter is in one stage, and a stage's modules hold exactly its parameters."""
    parameters = [p for p, _ in network.module.named_parameters()]
    in_stages = [p for stage in network.stages for p in stage.parameters]
    names = [stage.name for stage in network.stages]

    assert sorted(in_stages) == sorted(parameters)
    assert names == ["stem", *(f"stage{i}" for i in range(1, len(names) - 1)), HEAD]
    assert len(names) >= 5
    assert all(stage.parameters for stage in network.stages)
    for stage in network.stages:
        below = tuple(f"{module}." for module in stage.modules)
        held = [p for p in parameters if p.startswith(below) or p in stage.modules]
        assert sorted(held) == sorted(stage.parameters)


def test_phases__change_what_they_plan_and_nothing_else(network):
    """Gradual thawing passes through head, last:N and, in the end, all stages."""
    module = network.module
    phases = plan_phases(
        network,
        strategy=Strategy.GRADUAL,
        unfreeze=HEAD_ALONE,
        epochs=len(network.stages),
        freeze_epochs=1,
        thaw_every=1,
    )
    rates = {stage.name: 1e-3 for stage in network.stages}
    stages = phases[-1].trainable
    optimizer = create_optimizer(module, stages, name="lion", rates=rates, weight_decay=0.1)
    images = torch.rand(3, *network.preprocessing.input_size)
    walk = [(phase, BatchNorm.TRAIN) for phase in [*phases[:2], phases[-1]]]
    before = state_of(module)
    statistics = [name for name in before if name.endswith(STATISTICS)]
    if statistics:
        walk.append((phases[-1], BatchNorm.EVAL))
    for phase, batch_norm in walk:
        freeze(module, phase.parameters)
        frozen = network.stages[: len(network.stages) - len(phase.trainable)]
        computed = outputs_of(network, frozen, images[:1])
        train_mode(module, batch_norm)
        nn.functional.cross_entropy(module(images), torch.arange(3)).backward()
        optimizer.step()
        optimizer.zero_grad()
        after = state_of(module)
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        planned = set(phase.parameters)
        if batch_norm is BatchNorm.TRAIN:
            planned |= {n for stage in phase.trainable for n in held_by(stage, statistics)}

        assert changed <= planned, phase.name
        assert {n for n in planned - changed if not n.endswith(WITHOUT_GRADIENT)} == set(), (
            phase.name
        )
        again = outputs_of(network, frozen, images[:1])
        assert len(computed) == len(again) >= min(1, len(frozen))
        assert all(torch.equal(a, b) for a, b in zip(computed, again, strict=True)), phase.name
        before = after


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def held_by(stage: Stage, names: list[str]) -> list[str]:
    below = tuple(f"{name}." for name in stage.modules)
    return [name for name in names if name.startswith(below)]


class Reached(Exception):
    """A pass has reached a layer that is trained."""


@torch.no_grad()
def outputs_of(network, frozen, images: Tensor) -> list[Tensor]:
    """Return the outputs of the frozen stages' layers in eval mode, up to a trained layer."""
    outputs: list[Tensor] = []
    names = tuple(f"{name}." for stage in frozen for name in stage.modules)

    def stop(*_: object) -> None:
        raise Reached

    handles = []
    for name, layer in network.module.named_modules():
        if next(layer.children(), None) is not None:
            continue
        if f"{name}.".startswith(names):
            handles.append(
                layer.register_forward_hook(lambda _, __, output: outputs.append(output.clone()))
            )
        elif next(layer.parameters(), None) is not None:
            handles.append(layer.register_forward_pre_hook(stop))
    network.module.eval()
    with suppress(Reached):
        network.module(images)
    for handle in handles:
        handle.remove()
    return outputs


@torch.no_grad()
def test_temperature__divides_the_logits(network):
    copy = replace(network, module=deepcopy(network.module))
    images = torch.rand(2, *network.preprocessing.input_size)
    before = network.module(images)

    fold_temperature(copy, 0.4)

    parts = copy.forward_parts(images, head=True)
    assert torch.equal(parts.logits, copy.module(images))
    assert parts.features.shape == (2, network.feature_dim)
    torch.testing.assert_close(parts.logits, before / 0.4, rtol=1e-3, atol=1e-4)
    assert copy.backbone_digest() == network.backbone_digest()


@pytest.mark.slow
def test_openvino__computes_the_features_of_torch(network):
    """At the end of the stem and of the last stage, within 1e-5 of a row's length."""
    inside = network.stages[0].name
    _, *size = network.preprocessing.input_size
    pixels = np.random.default_rng(1).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    features = features_of(FeatureExtractor(network, (inside, POOLED)))

    ours, theirs = (
        create_pass(features, ComputeSettings(CPU, Precision.FP32, 3, 1, engine=engine))
        for engine in (Engine.TORCH, Engine.OPENVINO)
    )

    expected = ours.values(pixels)
    gaps = np.linalg.norm(theirs.values(pixels) - expected, axis=1)
    assert (gaps <= 1e-5 * np.linalg.norm(expected, axis=1)).all()
