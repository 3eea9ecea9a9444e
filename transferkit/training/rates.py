"""Discriminative learning rates: one a stage, largest for the head, falling towards the stem.

Needs no torch to be imported.
"""

from collections.abc import Sequence

STEM_SHARE = 1 / 16
"""The stem's rate as a share of the last stage's, where no layer decay is given."""

BACKBONE_SHARE = 1 / 10
"""The last stage's rate as a share of the head's, where no backbone rate is given."""


def default_layer_decay(backbone_stages: int) -> float:
    """The factor per stage that leads from the last stage to `STEM_SHARE` of it at the stem.

    The deeper a network is divided, the gentler is each step: 0.5 for the five stages of ResNet18,
    0.79 for the thirteen of a ViT.

    >>> default_layer_decay(5)
    0.5
    """
    return float(STEM_SHARE ** (1 / max(1, backbone_stages - 1)))


def stage_rates(
    backbone: Sequence[str], head: str, *, head_rate: float, backbone_rate: float, decay: float
) -> dict[str, float]:
    """The peak learning rate of every stage.

    Args:
        backbone: The backbone's stages, stem to last.
        head: The head's name.
        head_rate: Of the head.
        backbone_rate: Of the last backbone stage.
        decay: Factor per stage from there towards the stem; 1 for the same rate in all.
    """
    steps = reversed(range(len(backbone)))
    rates = {name: backbone_rate * decay**step for name, step in zip(backbone, steps, strict=True)}
    return {**rates, head: head_rate}


def spread_rates(stages: Sequence[str], lowest: float, highest: float) -> dict[str, float]:
    """Rates in a geometric sequence from the stem's to the head's.

    >>> spread_rates(("stem", "stage1", "head"), 1e-5, 1e-3)["stage1"]
    0.0001
    """
    ratio = highest / lowest
    last = max(1, len(stages) - 1)
    return {name: lowest * ratio ** (i / last) for i, name in enumerate(stages)}
