"""Backbones of timm, through the interface that all its models share."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import timm
from timm.models import PretrainedCfg
from torch import Tensor, nn

from transferkit.data.preprocessing import Preprocessing
from transferkit.models.network import ForwardParts, Layout, Network, Source, module_names
from transferkit.models.stages import Stage, timm_stages, traced_stages

_CONFIG_KEYS = tuple(entry.name for entry in fields(PretrainedCfg))


def _names() -> Sequence[str]:
    names: list[str] = timm.list_models()
    return names


def _build(architecture: str, model_args: Mapping[str, Any], config: Mapping[str, Any]) -> Network:
    known = {key: config[key] for key in _CONFIG_KEYS if key in config}
    module = timm.create_model(
        architecture,
        pretrained=False,
        pretrained_cfg=known,
        num_classes=config["num_classes"],
        **model_args,
    ).eval()
    heads = module_names(module, module.get_classifier())
    input_size = Preprocessing.from_config(config).input_size
    return Network(
        module=module,
        source=TIMM,
        architecture=architecture,
        model_args=dict(model_args),
        config={**config, **PretrainedCfg(**known).to_dict(remove_source=True)},
        heads=heads,
        num_classes=config["num_classes"],
        stages=_find_stages(module, heads, input_size),
    )


def _find_stages(
    module: nn.Module, heads: tuple[str, ...], input_size: tuple[int, int, int]
) -> tuple[Stage, ...]:
    try:
        return timm_stages(module, heads)
    except (AttributeError, AssertionError, TypeError):
        # A few models have no group_matcher, or one without coarse groups.
        return traced_stages(module, heads, input_size)


def _new_head(network: Network, num_classes: int) -> None:
    # Named, because up to 1.0.30 many of timm's models otherwise return to mean pooling.
    pooling = {k: v for k, v in network.model_args.items() if k == "global_pool"}
    network.module.reset_classifier(num_classes, **pooling)  # type: ignore[operator]


def _forward_parts(network: Network, images: Tensor, head: bool) -> ForwardParts:
    module: Any = network.module
    last_map = module.forward_features(images)
    prelogits: Tensor = module.forward_head(last_map, pre_logits=True)
    return ForwardParts(last_map, prelogits, module.forward_head(last_map) if head else None)


def _layout(module: nn.Module) -> Layout:
    return Layout(
        class_token=getattr(module, "global_pool", None) == "token",
        prefix_tokens=getattr(module, "num_prefix_tokens", 0),
        channels_last=getattr(module, "output_fmt", "NCHW") == "NHWC",
    )


TIMM = Source(
    prefix="",
    names=_names,
    build=_build,
    new_head=_new_head,
    find_stages=_find_stages,
    forward_parts=_forward_parts,
    layout=_layout,
)
