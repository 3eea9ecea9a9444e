"""Backbones of torchvision, which share no contract: head and stages are found by looking."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model, get_model_weights, list_models

from transferkit.data.preprocessing import Preprocessing
from transferkit.models.network import Network, Source
from transferkit.models.stages import traced_stages


def weights_entry(architecture: str) -> WeightsEnum:
    """Torchvision's best published weights of an architecture: address, transforms, categories."""
    return get_model_weights(architecture).DEFAULT


def weights_config(architecture: str) -> dict[str, Any]:
    """The configuration of these weights, in timm's keys."""
    entry = weights_entry(architecture)
    preset = entry.transforms()
    (crop,), (resize,) = preset.crop_size, preset.resize_size
    preprocessing = Preprocessing(
        input_size=(3, crop, crop),
        interpolation=preset.interpolation.value,
        crop_pct=crop / resize,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
    return {
        **preprocessing.to_config(),
        "num_classes": len(entry.meta["categories"]),
        "tag": entry.name.lower(),
        "url": entry.url,
    }


def _names() -> Sequence[str]:
    names: list[str] = list_models(module=torchvision.models)
    return names


def _build(architecture: str, model_args: Mapping[str, Any], config: Mapping[str, Any]) -> Network:
    module = get_model(
        architecture,
        weights=None,
        num_classes=config["num_classes"],
        **_extra_arguments(architecture, Preprocessing.from_config(config)),
        **model_args,
    ).eval()
    head = _head_name(module, config["num_classes"])
    input_size = Preprocessing.from_config(config).input_size
    return Network(
        module=module,
        source=TORCHVISION,
        architecture=architecture,
        model_args=dict(model_args),
        config={k: v for k, v in config.items() if k != "url"},
        heads=(head,),
        num_classes=config["num_classes"],
        stages=traced_stages(module, (head,), input_size),
    )


def _extra_arguments(architecture: str, preprocessing: Preprocessing) -> dict[str, Any]:
    if architecture.startswith("vit_"):
        return {"image_size": preprocessing.input_size[-1]}
    if architecture not in ("googlenet", "inception_v3"):
        return {}
    # Their published weights expect the input transform, and come with side heads that only help
    # training from scratch.
    return {"aux_logits": False, "transform_input": True, "init_weights": False}


def _head_name(module: nn.Module, num_classes: int) -> str:
    candidates: list[str] = [
        name
        for name, child in module.named_modules()
        if getattr(child, "out_features", getattr(child, "out_channels", None)) == num_classes
        and isinstance(child, nn.Linear | nn.Conv2d)
    ]
    return candidates[-1]


def _new_head(network: Network, num_classes: int) -> None:
    (name,) = network.heads
    old = network.module.get_submodule(name)
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
    elif isinstance(old, nn.Conv2d):
        new = nn.Conv2d(old.in_channels, num_classes, old.kernel_size)  # type: ignore[arg-type]
    else:
        raise TypeError(f"the head of {network.name} is {old}, expected a linear layer")
    parent, _, attribute = name.rpartition(".")
    setattr(network.module.get_submodule(parent), attribute, new.to(network.device))


def _features(network: Network, images: Tensor) -> Tensor:
    (name,) = network.heads
    entering: list[Tensor] = []
    head = network.module.get_submodule(name)
    handle = head.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    try:
        network.module(images)
    finally:
        handle.remove()
    (features,) = entering
    # SqueezeNet's head is a convolution: its input still has a height and a width.
    return torch.flatten(features, 2).mean(dim=2) if features.ndim > 2 else features


TORCHVISION = Source(
    prefix="torchvision:",
    names=_names,
    build=_build,
    new_head=_new_head,
    find_stages=traced_stages,
    features=_features,
)
