"""Random views of a batch of images, each cropped, mirrored, coloured and blurred separately."""

import math

import torch
from torch import Tensor
from torch.nn import functional

MEAN, STD = 0.45, 0.25
"""How pixels are normalised, in pretraining and after it, all channels alike."""
_LEAST_AREA = 0.2
_LARGEST_TURN = 0.6
_GREY_SHARE = 0.2
_BLUR_SHARE = 0.5


class Views:
    """Draws views from one generator, so that its seed decides all of them.

    Attributes:
        side: Side of a view, in pixels.
        generator: Generator on the device of the images.
    """

    def __init__(self, side: int, generator: torch.Generator) -> None:
        self.side = side
        self.generator = generator

    def __call__(self, pictures: Tensor) -> Tensor:
        """Map images (B, 3, S, S) from 0 to 1 to normalised views (B, 3, side, side)."""
        coloured = self._coloured(self._cropped(pictures))
        return (self._blurred(coloured).clamp(0, 1) - MEAN) / STD

    def _uniform(self, low: float, high: float, *shape: int) -> Tensor:
        device = self.generator.device
        share = torch.rand(*shape, generator=self.generator, device=device)
        return low + (high - low) * share

    def _cropped(self, x: Tensor) -> Tensor:
        count = len(x)
        size = self._uniform(_LEAST_AREA, 1, count).sqrt()
        stretch = self._uniform(-0.3, 0.3, count).exp()
        width, height = (size * stretch).clamp(max=1), (size / stretch).clamp(max=1)
        mirrored = torch.where(self._uniform(0, 1, count) < 0.5, -width, width)
        across = self._uniform(-1, 1, count) * (1 - width)
        down = self._uniform(-1, 1, count) * (1 - height)
        none = torch.zeros_like(width)
        rows = [torch.stack([mirrored, none, across], 1), torch.stack([none, height, down], 1)]
        grid = functional.affine_grid(
            torch.stack(rows, 1), [count, 3, self.side, self.side], align_corners=False
        )
        return functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)

    def _coloured(self, x: Tensor) -> Tensor:
        """Change hue, saturation and brightness by one matrix per image, and contrast."""
        count, device = len(x), x.device
        turn = self._uniform(-_LARGEST_TURN, _LARGEST_TURN, count, 1, 1)
        unit = torch.eye(3, device=device)
        grey = torch.full((3, 3), 1 / 3, device=device)
        # Rodrigues' formula, around the axis of greys.
        cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=device) / math.sqrt(3)
        hue = turn.cos() * unit + turn.sin() * cross + (1 - turn.cos()) * grey
        saturation = self._uniform(0.2, 1.6, count, 1, 1)
        colourless = self._uniform(0, 1, count, 1, 1) < _GREY_SHARE
        saturation = saturation.masked_fill(colourless, 0)
        matrix = hue @ (saturation * unit + (1 - saturation) * grey)
        matrix = matrix * self._uniform(0.6, 1.4, count, 1, 1)
        mean = x.mean(dim=(2, 3), keepdim=True)
        x = mean + (x - mean) * self._uniform(0.6, 1.4, count, 1, 1, 1)
        return (matrix @ x.flatten(2)).view_as(x)

    def _blurred(self, x: Tensor) -> Tensor:
        count = len(x)
        blurred = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)
        chosen = self._uniform(0, 1, count, 1, 1, 1) < _BLUR_SHARE
        return x + self._uniform(0, 1, count, 1, 1, 1) * chosen * (blurred - x)
