"""The training loss and its class weights.

Importing this module does not import torch.
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
    """`none` gives every image the same weight, `balanced` every class."""

    NONE = "none"
    BALANCED = "balanced"


class Criterion:
    """Mean cross-entropy of a batch, in nats.

    Args:
        class_weights: (C,) float32, one factor per class; None for no weights.
        label_smoothing: Share of the label's probability spread over all classes, in [0, 1);
            Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, section 7.
        device: Device of the logits.
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
        """Return the loss of (B, C) float32 logits and (B,) int64 labels, a scalar."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(
            logits, labels, weight=self._weights, label_smoothing=self._label_smoothing
        )

    def share(self, labels: Tensor, of: Tensor) -> Tensor | float:
        """Return which part of the mean over a batch the labels (b,) are, in [0, 1].

        Args:
            labels: (b,) int64.
            of: (B,) int64 of the whole batch, `labels` among them.
        """
        if self._weights is None:
            return len(labels) / len(of)
        return self._weights[labels].sum() / self._weights[of].sum()


def class_weights(kind: ClassWeights, labels: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Return one loss factor per class.

    `balanced` is scikit-learn's rule, N / (classes * images of the class), after King and Zeng,
    Logistic Regression in Rare Events Data, 2001.

    Args:
        kind: The rule.
        labels: (N,) int64 with every class present.

    Returns:
        (C,) float32, or None where all factors are 1.
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
