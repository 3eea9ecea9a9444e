"""Copies to a device: on a GPU they start in pinned memory and run beside the computation."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from transferkit import device_copies
from transferkit.device_copies import (
    after_others_have_begun,
    batch_memory,
    batches_ahead,
    begin_reading,
    pageable,
    to_device,
)

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

    class Event:
        def record(self, which):
            done.append(f"mark {which.name}")

        def synchronize(self):
            done.append("wait for the mark")

    monkeypatch.setattr(torch.cuda, "Event", Event)

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


def test_begin_reading__waits_for_its_own_values_only(log, monkeypatch):
    with FakeTensorMode():
        read = begin_reading(torch.zeros(2, device="cuda"))
        assert log == ["copy without waiting", "mark computing"]
        monkeypatch.setattr(Tensor, "numpy", lambda tensor: log.append("read"))
        read()

    assert log[2:] == ["wait for the mark", "read"]


def test_begin_reading__has_the_values_at_once_on_a_cpu():
    assert begin_reading(torch.arange(3))().tolist() == [0, 1, 2]


@pytest.mark.parametrize(("device", "ahead"), [(CPU, 0), (GPU, 1)])
def test_values__are_read_when_the_next_batch_has_begun_on_a_gpu(device, ahead):
    done = []

    def begin(number):
        done.append(f"begin {number}")
        return number

    assert batches_ahead(device) == ahead
    for number in after_others_have_begun(map(begin, range(3)), ahead):
        done.append(f"read {number}")

    read_last = ["begin 0", "begin 1", "read 0", "begin 2", "read 1", "read 2"]
    at_once = [f"{what} {number}" for number in range(3) for what in ("begin", "read")]
    assert done == (read_last if ahead else at_once)
