"""Backbones of torchvision, which share no interface: head and stages are found by inspection."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model, get_model_weights, list_models

from transferkit.data.preprocessing import Preprocessing
from transferkit.models.network import ForwardParts, Layout, Network, Source
from transferkit.models.stages import traced_stages

_ANY = 1000
"""Width of a head that is removed right after the network is built."""


def weights_entry(architecture: str) -> WeightsEnum:
    """Return torchvision's default weights of an architecture: URL, transforms, categories."""
    return get_model_weights(architecture).DEFAULT


def weights_config(architecture: str) -> dict[str, Any]:
    """Return the configuration of an architecture's default weights, in timm's keys."""
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
    num_classes = config["num_classes"]
    module = get_model(
        architecture,
        weights=None,
        num_classes=num_classes or _ANY,
        **_extra_arguments(architecture, Preprocessing.from_config(config)),
        **model_args,
    ).eval()
    head = _head_name(module, num_classes or _ANY)
    if not num_classes:
        _replace_head(module, head, nn.Identity())
    input_size = Preprocessing.from_config(config).input_size
    return Network(
        module=module,
        source=TORCHVISION,
        architecture=architecture,
        model_args=dict(model_args),
        config={k: v for k, v in config.items() if k != "url"},
        heads=(head,),
        num_classes=num_classes,
        stages=traced_stages(module, (head,), input_size),
    )


def _extra_arguments(architecture: str, preprocessing: Preprocessing) -> dict[str, Any]:
    if architecture.startswith("vit_"):
        return {"image_size": _square_side(architecture, preprocessing)}
    if architecture not in ("googlenet", "inception_v3"):
        return {}
    # Their published weights expect the input transform. Auxiliary heads only help training from
    # scratch.
    return {"aux_logits": False, "transform_input": True, "init_weights": False}


def _square_side(architecture: str, preprocessing: Preprocessing) -> int:
    _, height, width = preprocessing.input_size
    if height != width:
        raise ValueError(f"torchvision builds {architecture} for square images only; timm does not")
    return height


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
    if not num_classes:
        new = nn.Identity()
    elif isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
    elif isinstance(old, nn.Conv2d):
        new = nn.Conv2d(old.in_channels, num_classes, old.kernel_size)  # type: ignore[arg-type]
    else:
        raise TypeError(f"the head of {network.name} is {old}, expected a linear layer")
    _replace_head(network.module, name, new.to(network.device))


def _replace_head(module: nn.Module, name: str, head: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(parent), attribute, head)


def _forward_parts(network: Network, images: Tensor, head: bool) -> ForwardParts:
    # Torchvision's forward() cannot run in parts, so hooks observe a whole pass.
    (name,) = network.heads
    maps: list[Tensor] = []
    entering: list[Tensor] = []

    def keep_map(module: nn.Module, _: object, output: object) -> None:
        if not entering and isinstance(output, Tensor) and output.ndim > 2:
            maps[:] = [output]

    handles = [
        module.register_forward_hook(keep_map)
        for module in network.module.modules()
        if next(module.parameters(), None) is not None
    ]
    head_module = network.module.get_submodule(name)
    handles.append(
        head_module.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    )
    try:
        logits = network.module(images)
    finally:
        for handle in handles:
            handle.remove()
    (prelogits,) = entering
    # SqueezeNet's head is a convolution, so its input still has a height and a width.
    pooled = torch.flatten(prelogits, 2).mean(dim=2) if prelogits.ndim > 2 else prelogits
    return ForwardParts(maps[0], pooled, logits)


def _layout(module: nn.Module) -> Layout:
    has_class_token = hasattr(module, "class_token")
    return Layout(class_token=has_class_token, prefix_tokens=int(has_class_token))


TORCHVISION = Source(
    prefix="torchvision:",
    names=_names,
    build=_build,
    new_head=_new_head,
    find_stages=traced_stages,
    forward_parts=_forward_parts,
    layout=_layout,
)
