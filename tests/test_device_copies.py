"""Copies to a device: on a GPU they start in pinned memory and run beside the computation."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from transferkit import device_copies
from transferkit.device_copies import batch_memory, pageable, to_device

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_to_device__leaves_a_tensor_that_is_there_as_it_is():
    values = torch.arange(3)

    assert to_device(values, CPU) is values


@pytest.fixture
def log(monkeypatch) -> list[str]:
    """Streams of a machine without a GPU, which tell what they are asked to do."""
    done: list[str] = []
    copying = SimpleNamespace(name="copying")
    computing = SimpleNamespace(
        name="computing", wait_stream=lambda other: done.append(f"computing waits for {other.name}")
    )

    @contextmanager
    def stream(which):
        done.append(f"begin {which.name}")
        yield
        done.append(f"end {which.name}")

    def pin_memory(tensor):
        done.append("pin")
        return tensor

    copied = Tensor.to

    def to(tensor, device, non_blocking=False):
        done.append("copy without waiting" if non_blocking else "copy")
        return copied(tensor, device)

    def record_stream(tensor, which):
        done.append(f"kept for {which.name}")

    monkeypatch.setattr(device_copies, "_copy_stream", lambda device: copying)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(Tensor, "record_stream", record_stream)
    monkeypatch.setattr(Tensor, "to", to)
    return done


def test_to_device__copies_beside_the_computation_which_waits_for_it_on_the_gpu(log):
    with FakeTensorMode():
        copy = to_device(torch.zeros(2, dtype=torch.uint8), GPU)

    assert (copy.device, copy.dtype) == (GPU, torch.uint8)
    assert log == [
        *("begin copying", "pin", "copy without waiting", "end copying"),
        *("computing waits for copying", "kept for computing"),
    ]


def test_batch_memory__is_pinned_for_a_gpu_alone(monkeypatch):
    asked = []
    empty = torch.empty

    def record(shape, *, dtype, pin_memory):
        asked.append((shape, dtype, pin_memory))
        return empty(shape, dtype=dtype)

    monkeypatch.setattr(torch, "empty", record)
    memory = batch_memory(GPU)((2, 3, 3, 3))

    assert (memory.shape, memory.dtype) == ((2, 3, 3, 3), np.uint8)
    assert asked == [((2, 3, 3, 3), torch.uint8, True)]
    assert batch_memory(CPU) is pageable
