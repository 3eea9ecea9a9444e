"""The proof that frozen tensors did not change."""

import pytest
import torch

from transferkit.errors import TransferKitError
from transferkit.models.create_network import create_network
from transferkit.training.frozen_proof import digests, require_unchanged


def network_of(name="test_resnet"):
    torch.manual_seed(0)
    return create_network(name, weights="none", num_classes=3)


def test_require_unchanged__names_a_changed_tensor():
    network = network_of()
    before = digests(network.module, network.module.state_dict())
    require_unchanged(before, digests(network.module, network.module.state_dict()))
    network.module.layer2[0].bn1.running_mean[0] += 1e-6

    with pytest.raises(
        TransferKitError, match=r"1 tensors changed .*: layer2\.0\.bn1\.running_mean;"
    ):
        require_unchanged(before, digests(network.module, network.module.state_dict()))
