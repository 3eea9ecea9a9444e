"""edges8, a hand-made feature extractor: a baseline for deep features without any weights.

It computes the derivative of the brightness in eight directions, drops negative values and sums the
rest over a grid of patches. A derivative in any direction is the sum of two fixed ones, weighted by
the cosine and the sine of the angle: Freeman and Adelson, The design and use of steerable filters,
IEEE PAMI 1991.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from transferkit.data.preprocessing import Preprocessing, Resize
from transferkit.models import EDGES8
from transferkit.models.network import ForwardParts, Layout, Network, Source
from transferkit.models.stages import HEAD, Stage

DEFAULT_PATCHES = 4

_DIRECTIONS = 8
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_SIZE = 128


class DirectionalEdges(nn.Module):
    """Network whose features are the sums of an image's edges by direction and patch.

    Attributes:
        kernels: Convolution with the eight directional derivatives.
        head: Maps the sums to logits.
    """

    def __init__(self, num_classes: int, patches: int = DEFAULT_PATCHES) -> None:
        super().__init__()
        self.patches = patches
        self.kernels = nn.Conv2d(3, _DIRECTIONS, 3, bias=False)
        self.kernels.weight = nn.Parameter(_directional_derivatives())
        self.head = _head(_DIRECTIONS * patches * patches, num_classes)

    def edges(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in 0..1 to (B, 8 * patches * patches), directions outermost."""
        strengths = self.kernels(images).relu()
        area = strengths[0, 0].numel() / self.patches**2
        means = functional.adaptive_avg_pool2d(strengths, self.patches)
        sums: Tensor = means * area
        return sums.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in 0..1 to logits (B, num_classes)."""
        logits: Tensor = self.head(self.edges(images))
        return logits


def _head(features: int, num_classes: int) -> nn.Module:
    return nn.Linear(features, num_classes) if num_classes else nn.Identity()


def _directional_derivatives() -> Tensor:
    """Return Sobel's kernels on the luma in eight directions, (8, 3, 3, 3)."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    angles = [2 * math.pi * k / _DIRECTIONS for k in range(_DIRECTIONS)]
    kernels = torch.stack([math.cos(a) * across + math.sin(a) * across.T for a in angles])
    return kernels[:, None] * torch.tensor(_LUMA).view(1, 3, 1, 1)


def edges_config() -> dict[str, Any]:
    """Return the configuration of edges8, in timm's keys."""
    preprocessing = Preprocessing(
        input_size=(3, _SIZE, _SIZE),
        crop_pct=1.0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    ).changed(image_size=None, resize=Resize.SQUASH)
    return {**preprocessing.to_config(), "num_classes": 0}


def _names() -> Sequence[str]:
    return (EDGES8,)


def _build(architecture: str, model_args: Mapping[str, Any], config: Mapping[str, Any]) -> Network:
    module = DirectionalEdges(config["num_classes"], **model_args).eval()
    return Network(
        module=module,
        source=EDGES,
        architecture=architecture,
        model_args=dict(model_args),
        config=dict(config),
        heads=(HEAD,),
        num_classes=config["num_classes"],
        stages=_find_stages(module, (HEAD,), (3, _SIZE, _SIZE)),
    )


def _find_stages(
    module: nn.Module, heads: tuple[str, ...], input_size: tuple[int, int, int]
) -> tuple[Stage, ...]:
    parameters = dict(module.named_parameters())
    head = tuple(name for name in parameters if name.startswith(f"{HEAD}."))
    return (Stage("stem", ("kernels.weight",), ("kernels",)), Stage(HEAD, head, heads))


def _new_head(network: Network, num_classes: int) -> None:
    module: Any = network.module
    module.head = _head(network.feature_dim, num_classes).to(network.device)


def _forward_parts(network: Network, images: Tensor, head: bool) -> ForwardParts:
    module: Any = network.module
    edges: Tensor = module.edges(images)
    return ForwardParts(edges, edges, module.head(edges) if head else None)


def _layout(module: nn.Module) -> Layout:
    return Layout()


EDGES = Source(
    prefix="",
    names=_names,
    build=_build,
    new_head=_new_head,
    find_stages=_find_stages,
    forward_parts=_forward_parts,
    layout=_layout,
    by_formula=True,
)
