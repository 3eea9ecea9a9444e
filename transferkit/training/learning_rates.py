"""Discriminative learning rates: one per stage, highest for the head, falling towards the stem.

Importing this module does not import torch.
"""

from collections.abc import Sequence

STEM_SHARE = 1 / 16
"""The stem's rate as a share of the last stage's, unless a layer decay is given."""

BACKBONE_SHARE = 1 / 10
"""The last stage's rate as a share of the head's, unless a backbone rate is given."""


def default_layer_decay(backbone_stages: int) -> float:
    """Return the decay per stage that gives the stem `STEM_SHARE` of the last stage's rate.

    The more stages a network has, the gentler each step: 0.5 for the five stages of ResNet18, 0.79
    for the thirteen of a ViT.

    >>> default_layer_decay(5)
    0.5
    """
    return float(STEM_SHARE ** (1 / max(1, backbone_stages - 1)))


def stage_rates(
    backbone: Sequence[str], head: str, *, head_rate: float, backbone_rate: float, decay: float
) -> dict[str, float]:
    """Return the peak learning rate of every stage, by name.

    Args:
        backbone: Names of the backbone's stages, stem first.
        head: Name of the head.
        head_rate: Rate of the head.
        backbone_rate: Rate of the last backbone stage.
        decay: Factor per stage from there towards the stem; 1 for the same rate in all.
    """
    steps = reversed(range(len(backbone)))
    rates = {name: backbone_rate * decay**step for name, step in zip(backbone, steps, strict=True)}
    return {**rates, head: head_rate}


def spread_rates(stages: Sequence[str], lowest: float, highest: float) -> dict[str, float]:
    """Return rates in geometric progression from `lowest` at the stem to `highest` at the head.

    >>> spread_rates(("stem", "stage1", "head"), 1e-5, 1e-3)["stage1"]
    0.0001
    """
    ratio = highest / lowest
    last = max(1, len(stages) - 1)
    return {name: lowest * ratio ** (i / last) for i, name in enumerate(stages)}
