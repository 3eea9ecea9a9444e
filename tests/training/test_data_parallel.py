"""The layers that processes train together; what they exchange is tested with whole runs."""

import torch
from timm.layers import BatchNormAct2d, SyncBatchNormAct, convert_sync_batchnorm
from torch import nn

from transferkit.training.data_parallel import _sharing_tensors


def test_sharing_tensors__lets_a_copy_with_synchronised_norms_train_the_original():
    original = nn.Sequential(nn.Conv2d(3, 4, 1), BatchNormAct2d(4), nn.BatchNorm2d(4))

    copy = convert_sync_batchnorm(_sharing_tensors(original))

    assert [type(layer) for layer in copy[1:]] == [SyncBatchNormAct, nn.SyncBatchNorm]
    assert [type(layer) for layer in original[1:]] == [BatchNormAct2d, nn.BatchNorm2d]
    held, shared = original.state_dict(), copy.state_dict()
    assert held.keys() == shared.keys()
    with torch.no_grad():
        for value in copy.state_dict().values():
            value.fill_(7)
    assert all((value == 7).all() for value in original.state_dict().values())
    assert [id(p) for p in original.parameters()] == [id(p) for p in copy.parameters()]
