"""Layers whose gradients several processes exchange, by torch's DistributedDataParallel."""

import warnings
from copy import deepcopy

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from transferkit.models.freezing import BatchNorm


def exchanging(
    layers: nn.Module, device: torch.device, batch_norm: BatchNorm
) -> DistributedDataParallel:
    """Return layers that compute as before; a backward pass takes the mean of their gradients.

    Args:
        layers: The trained layers, in train mode and frozen as in their phase; the result shares
            their tensors.
        device: Their device.
        batch_norm: With `train`, the statistics are those of a whole batch.
    """
    if batch_norm is BatchNorm.TRAIN:
        from timm.layers import convert_sync_batchnorm

        layers = convert_sync_batchnorm(_sharing_tensors(layers))
    with warnings.catch_warnings():
        # The successor of `broadcast_buffers` is not in all versions of torch that we support.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(
            layers,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,  # they are the same everywhere: frozen, or synchronised
            # Without it, gradients are grouped anew after the first step. Sums over three or more
            # processes would be rounded differently in a run that was stopped and resumed.
            find_unused_parameters=True,
        )


def _sharing_tensors(layers: nn.Module) -> nn.Module:
    """Return a copy whose parameters and buffers are those of `layers`."""
    tensors = (*layers.parameters(), *layers.buffers())
    return deepcopy(layers, {id(tensor): tensor for tensor in tensors})
