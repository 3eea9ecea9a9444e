"""The loss, and how much each class counts in it.

Needs no torch to be imported.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

Criterion = Callable[["Tensor", "Tensor"], "Tensor"]
"""Logits (B, C) and labels (B,) to a scalar loss."""


class ClassWeights(StrEnum):
    """`none` counts every image the same, `balanced` every class."""

    NONE = "none"
    BALANCED = "balanced"


def create_criterion(
    class_weights: NDArray[np.float32] | None, label_smoothing: float, device: torch.device
) -> Criterion:
    """Cross-entropy in nats.

    Args:
        class_weights: (C,) float32 factors a class, or None for none.
        label_smoothing: Share of the label's probability spread over all classes, in [0, 1);
            Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, section 7.
        device: Where the logits are.
    """
    import torch
    from torch.nn.functional import cross_entropy

    weight = None if class_weights is None else torch.from_numpy(class_weights).to(device)

    def criterion(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, weight=weight, label_smoothing=label_smoothing)

    return criterion


def class_weights(kind: ClassWeights, labels: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Factors on the loss, or None where all are one.

    `balanced` is scikit-learn's rule, N / (classes * images of the class), after King and Zeng,
    Logistic Regression in Rare Events Data, 2001.

    Args:
        kind: The rule.
        labels: (N,) int64 with every class present.

    Returns:
        (C,) float32.
    """
    import numpy as np

    match kind:
        case ClassWeights.NONE:
            return None
        case ClassWeights.BALANCED:
            counts = np.bincount(labels)
            return (len(labels) / (len(counts) * counts)).astype(np.float32)
        case _:
            assert_never(kind)
