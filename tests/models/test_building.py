"""Networks that get their weights from a file are built without drawing random ones."""

import pytest
import torch
from torch import nn

from transferkit.models.building import without_drawing
from transferkit.models.create_network import create_network


@pytest.mark.parametrize("bounds", [(-2.0, 2.0), (0.01, 0.02)])
def test_without_drawing__truncated_normals_terminate(bounds, monkeypatch):
    """Torch redraws until all numbers are within the bounds, starting from raw memory."""
    large = torch.full((8,), 1e3)
    monkeypatch.setattr(torch, "empty_like", lambda tensor: large.clone())
    with without_drawing():
        nn.init.trunc_normal_(large, std=0.02, a=bounds[0], b=bounds[1])

    assert large.tolist() == [0.0] * 8


def test_without_drawing__keeps_constant_and_computed_tensors():
    drawn = create_network("swin_tiny_patch4_window7_224", weights="none", image_size=56)
    with without_drawing():
        undrawn = create_network("swin_tiny_patch4_window7_224", weights="none", image_size=56)
    attention, expected = (n.module.layers[0].blocks[0].attn for n in (undrawn, drawn))

    assert torch.equal(attention.relative_position_index, expected.relative_position_index)
    assert torch.equal(undrawn.module.norm.weight, drawn.module.norm.weight)
