"""Grids: where in the image each position of a layer's output lies."""

import pytest
import torch

from transferkit.models.grids import Grid, find_grid
from transferkit.models.network import Layout


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((1, 197, 8), Layout(prefix_tokens=1), Grid(14, 14, 1)),
        ((1, 198, 8), Layout(prefix_tokens=2), Grid(14, 14, 2)),
        ((1, 196, 8), Layout(prefix_tokens=1), Grid(14, 14, 0)),
        ((1, 195, 8), Layout(), None),
        ((1, 8, 7, 7), Layout(), Grid(7, 7)),
        ((1, 7, 7, 8), Layout(channels_last=True), Grid(7, 7, channels_last=True)),
        ((1, 8, 1, 1), Layout(), None),
        ((1, 8), Layout(), None),
    ],
)
def test_find_grid__tokens_form_a_square_without_the_prefix_tokens(shape, layout, expected):
    grid = find_grid(torch.zeros(shape), layout, (224, 224))

    assert grid == expected
    if grid:
        values = torch.randn(shape)
        maps = grid.to_map(values)
        assert maps.shape == (1, 8, grid.height, grid.width)
        assert torch.equal(grid.with_map(values, maps), values)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 3, 5, 96), Grid(3, 5, channels_last=True)),
        ((1, 96, 3, 5), Grid(3, 5)),
        ((1, 6, 10, 8), Grid(6, 10, channels_last=True)),
        ((1, 15, 64), Grid(3, 5, prefix=0)),
        ((1, 16, 64), Grid(3, 5, prefix=1)),
    ],
)
def test_find_grid__has_the_proportions_of_the_image(shape, expected):
    layout = Layout(prefix_tokens=1, channels_last=False)

    assert find_grid(torch.zeros(shape), layout, (96, 160)) == expected
