"""Seeding of torch's generators that leaves the caller's state as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators of the CPU and of a device for the block, and restore them afterwards.

    The generator of Apple's GPU, whose state torch cannot keep per device, is seeded only.

    Args:
        seed: The seed.
        device: The device that the block computes on.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        _seed(seed, device)
        yield


def seed_step(seed: int, step: int, process: int, device: torch.device) -> None:
    """Seed the generators for one training step in one process.

    A step's random numbers, such as those of dropout, therefore depend on nothing that came before
    it: a resumed run and a repeated step draw the same.
    """
    (state,) = np.random.SeedSequence((seed, step, process)).generate_state(1, np.uint64)
    _seed(int(state) >> 1, device)


def _seed(seed: int, device: torch.device) -> None:
    # Not torch.manual_seed, which also seeds devices that are not restored.
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
