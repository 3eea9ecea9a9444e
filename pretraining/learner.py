"""The backbone during pretraining: its tasks, and the heads that are discarded afterwards."""

from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from views import MEAN, STD

ARCHITECTURE = "resnet18"
MODEL_ARGS: dict[str, Any] = {
    "layers": [1, 1, 1, 1], "channels": [48, 96, 192, 384], "global_pool": "catavgmax",
}  # fmt: skip
"""Averages of the last map and, beside them, its maxima, which tell photographs apart."""
_PROJECTED = 128
_TEMPERATURE = 0.2
_COLOUR_WEIGHT = 0.2
_LEVELS = 4
"""Of each channel, in the histograms of colours."""


class Learner(nn.Module):
    """The backbone with a head for each of two tasks.

    Two views of one image must be near each other and far from all others (Chen et al., A
    Simple Framework for Contrastive Learning of Visual Representations, ICML 2020). This
    makes features ignore colours, which views do not share but photographs differ in, so the second
    task is to predict the colours of a view.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = timm.create_model(ARCHITECTURE, num_classes=0, **MODEL_ARGS)
        width = self.backbone.num_features
        self.projection = nn.Sequential(
            nn.Linear(width, 2 * width), nn.BatchNorm1d(2 * width), nn.ReLU(),
            nn.Linear(2 * width, _PROJECTED),
        )  # fmt: skip
        self.colours = nn.Linear(width, 2 * _LEVELS**3)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Map views (B, 3, H, W) to unit vectors (B, 128) and to histograms (B, 128)."""
        # Maps of views have so few positions that maxima would hold little more than averages.
        features = self.backbone(views)[:, : self.backbone.num_features]
        projected = functional.normalize(self.projection(features).float(), dim=1)
        return projected, self.colours(features).float()

    def loss(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the loss of both tasks for two views (B, 3, H, W) of each image."""
        views = torch.cat([first, second])
        projected, predicted = self(views.contiguous(memory_format=torch.channels_last))
        return _contrast(projected) + _COLOUR_WEIGHT * _unexplained(
            predicted, colour_histograms(views)
        )


def _contrast(projected: Tensor) -> Tensor:
    """Return the NT-Xent loss: each of 2 B vectors finds the other view of its image among all."""
    likeness = projected @ projected.T / _TEMPERATURE
    likeness.fill_diagonal_(-torch.inf)
    count = len(projected)
    partners = torch.arange(count, device=projected.device).roll(count // 2)
    return functional.cross_entropy(likeness, partners)


def _unexplained(predicted: Tensor, actual: Tensor) -> Tensor:
    """Return the mean unexplained share of each column's variance, 1 for predicting the mean."""
    return ((predicted - actual).square().mean(0) / (actual.var(0) + 1e-4)).mean()


def colour_histograms(views: Tensor) -> Tensor:
    """Return colour histograms of the middle and the rim of views, (B, 3, H, W) to (B, 2 * 64).

    Each holds the square roots of the shares of 4 x 4 x 4 colours, so that small shares count.
    """
    count, _, height, width = views.shape
    levels = ((views * STD + MEAN) * _LEVELS).long().clamp(0, _LEVELS - 1)
    colour = (levels[:, 0] * _LEVELS + levels[:, 1]) * _LEVELS + levels[:, 2]
    rim = torch.ones(height, width, dtype=torch.long, device=views.device)
    rim[height // 4 : -(height // 4), width // 4 : -(width // 4)] = 0
    bins = _LEVELS**3
    picture = torch.arange(count, device=views.device)[:, None, None]
    cells = (2 * picture + rim) * bins + colour
    counts = torch.bincount(cells.flatten(), minlength=count * 2 * bins).view(count, 2, bins)
    return (counts / counts.sum(2, keepdim=True)).sqrt().flatten(1)
