"""A scikit-learn classifier as a differentiable layer."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from transferkit.bundle import FeatureHead
from transferkit.classifiers.gradients import log_odds, log_odds_gradient


def class_log_odds(features: Tensor, head: FeatureHead, num_classes: int) -> Tensor:
    """Return the log-odds of every class, with a gradient.

    In the backward pass the classifier is replaced by its first-order approximation around each
    row, a linear layer.

    Args:
        features: (B, D).
        head: The classifier.
        num_classes: C.

    Returns:
        (B, C) float64.
    """
    odds: Tensor = _LogOdds.apply(features, head, num_classes)
    return odds


class _LogOdds(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, head: FeatureHead, num_classes: int) -> Tensor:
        rows = features.detach().cpu().double()
        ctx.rows, ctx.head, ctx.num_classes = rows.numpy(), head, num_classes
        odds = log_odds(head.predict_proba(rows.numpy(), num_classes))
        return torch.from_numpy(odds).to(features.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        (given,) = gradients
        weights = given.detach().cpu().double().numpy()
        found = [
            log_odds_gradient(lambda rows: ctx.head.predict_proba(rows, ctx.num_classes), row, w)
            for row, w in zip(ctx.rows, weights, strict=True)
        ]
        return torch.from_numpy(np.stack(found)).to(given.device, torch.float32), None, None
