"""Tests that compute on a GPU; all skip without one.

`TRANSFERKIT_TEST_DEVICE=cpu` runs them on the CPU instead, to try the tests themselves.
"""

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device to test."""
    return torch.device(os.environ.get("TRANSFERKIT_TEST_DEVICE", "cuda"))


@pytest.fixture(autouse=True, scope="session")
def gpu(device):
    """Skip without a GPU; else compute in full fp32 instead of TF32."""
    if device.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU that torch can use")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for `same_sums`
        patch.setattr(torch.backends.cudnn, "allow_tf32", False)
        yield


@pytest.fixture
def same_sums():
    """Add up in the same order in every run; a layer that cannot do so raises."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
