"""The loss, and how much each class counts in it.

Needs no torch to be imported.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor


class ClassWeights(StrEnum):
    """`none` counts every image the same, `balanced` every class."""

    NONE = "none"
    BALANCED = "balanced"


class Criterion:
    """Cross-entropy in nats, the mean over a batch.

    Args:
        class_weights: (C,) float32 factors a class, or None for none.
        label_smoothing: Share of the label's probability spread over all classes, in [0, 1);
            Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, section 7.
        device: Where the logits are.
    """

    def __init__(
        self,
        class_weights: NDArray[np.float32] | None,
        label_smoothing: float,
        device: torch.device,
    ) -> None:
        import torch

        given = class_weights
        self._weights = None if given is None else torch.from_numpy(given).to(device)
        self._label_smoothing = label_smoothing

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of (B, C) float32 logits and (B,) int64 labels, a scalar."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(
            logits, labels, weight=self._weights, label_smoothing=self._label_smoothing
        )

    def weight(self, labels: Tensor) -> float:
        """What images count together in the mean."""
        return float(len(labels) if self._weights is None else self._weights[labels].sum())


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
