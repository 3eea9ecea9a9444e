"""Seeded blocks: they draw the same numbers and restore the caller's generators."""

import torch

from transferkit.training.randomness import seeded

CPU = torch.device("cpu")


def test_seeded__draws_the_same_again_and_restores_the_generator():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with seeded(7, CPU):
        one = torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    with seeded(7, CPU):
        again = torch.rand(5)

    assert torch.equal(one, again)
    assert torch.equal(one, torch.rand(5, generator=torch.Generator().manual_seed(7)))


def test_seeded__leaves_the_generators_of_other_devices_alone(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    with seeded(7, CPU):
        torch.rand(1)

    assert seeds == []
