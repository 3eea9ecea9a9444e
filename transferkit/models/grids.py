"""Layer outputs as feature maps: tokens laid out in a grid, channels before positions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from transferkit.models.network import Layout


@dataclass(frozen=True)
class Grid:
    """Layout of a layer's values over the image.

    Attributes:
        height: Rows of positions.
        width: Positions per row.
        prefix: Number of tokens before those of the positions; None where the values are a map.
        channels_last: Whether a map is (B, H, W, C).
    """

    height: int
    width: int
    prefix: int | None = None
    channels_last: bool = False

    def to_map(self, values: Tensor) -> Tensor:
        """Return the layer's values as (B, C, height, width), without prefix tokens."""
        if self.prefix is not None:
            positions = values[:, self.prefix :].transpose(1, 2)
            return positions.reshape(*positions.shape[:2], self.height, self.width)
        return values.permute(0, 3, 1, 2) if self.channels_last else values

    def with_map(self, values: Tensor, maps: Tensor) -> Tensor:
        """Return the layer's values with another (B, C, height, width) map; inverts `to_map`."""
        if self.prefix is not None:
            positions = maps.flatten(2).transpose(1, 2)
            return torch.cat([values[:, : self.prefix], positions], dim=1)
        return maps.permute(0, 2, 3, 1) if self.channels_last else maps


def find_grid(values: Tensor, layout: Layout, size: tuple[int, int]) -> Grid | None:
    """Return the grid of a layer's values; None where they have no positions.

    Args:
        values: Output or input of the layer, (B, ...).
        layout: Layout of the network's maps and tokens.
        size: (height, width) of the input image; a grid of tokens has its proportions.
    """
    if values.ndim == 3:
        # There are no prefix tokens before they are prepended, nor after they are removed.
        grids = (_token_grid(values.shape[1], n, size) for n in (layout.prefix_tokens, 0))
        return next((grid for grid in grids if grid), None)
    if values.ndim != 4:
        return None
    last = channels_are_last(values, layout, size)
    height, width = values.shape[1:3] if last else values.shape[2:]
    return Grid(height, width, channels_last=last) if height * width > 1 else None


def channels_are_last(values: Tensor, layout: Layout, size: tuple[int, int]) -> bool:
    """Return whether a map is (B, H, W, C).

    Args:
        values: The map, (B, ...) with four axes.
        layout: Layout of the network's maps.
        size: (height, width) of the input image; a map has its proportions.
    """
    _, a, b, c = values.shape
    # Where both pairs of neighbouring axes could be height and width, the layout decides.
    return _has_proportions(a, b, size) and (
        layout.channels_last or not _has_proportions(b, c, size)
    )


def _has_proportions(height: int, width: int, size: tuple[int, int]) -> bool:
    return abs(height * size[1] - width * size[0]) < max(size)


def _token_grid(tokens: int, prefix: int, size: tuple[int, int]) -> Grid | None:
    positions = tokens - prefix
    height = round((max(positions, 0) * size[0] / size[1]) ** 0.5)
    if positions < 2 or not height or positions % height:
        return None
    width = positions // height
    return Grid(height, width, prefix) if _has_proportions(height, width, size) else None
