"""Batches that are copied while the GPU computes arrive whole and in order."""

import numpy as np
import torch

from transferkit.device_copies import (
    after_others_have_begun,
    batch_memory,
    batches_ahead,
    begin_reading,
    to_device,
)

BATCHES, SHAPE = 40, (16, 64, 64, 3)


def pixels_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SHAPE, dtype=np.uint8)


def test_batches__copied_through_pinned_memory_are_those_copied_directly(device):
    allocate, sums = batch_memory(device), []
    busy = torch.ones(1024, 1024, device=device)
    for number in range(BATCHES):
        # The memory of each batch is given up at once, and may be used for the next one.
        pixels = allocate(SHAPE)
        pixels[:] = pixels_of(number)
        copy = to_device(torch.from_numpy(pixels), device)
        busy = (busy @ busy).clamp(0, 1)  # keeps the computing stream behind the copies
        sums.append((copy.long() * torch.arange(1, 4, device=device)).sum())

    direct = [torch.from_numpy(pixels_of(n)).to(device) for n in range(BATCHES)]
    expected = [(d.long() * torch.arange(1, 4, device=device)).sum() for d in direct]
    assert torch.stack(sums).tolist() == torch.stack(expected).tolist()


def test_batch_memory__is_pinned_on_a_gpu(device):
    memory = torch.from_numpy(batch_memory(device)(SHAPE))

    assert memory.is_pinned() == (device.type == "cuda")
    assert to_device(memory, device).device.type == device.type


def test_values__are_those_of_their_batch_although_the_next_one_has_begun(device):
    def begin(number):
        values = torch.full((256, 1024), float(number), device=device)
        for _ in range(10):
            values = values @ torch.eye(1024, device=device)
        return begin_reading(values)

    read = after_others_have_begun(map(begin, range(BATCHES)), batches_ahead(device))

    for number, values in enumerate(read):
        assert (values() == number).all()
