"""Seeded blocks: they draw the same numbers and restore the caller's generators."""

from contextlib import contextmanager

import pytest
import torch

from transferkit.training.randomness import seed_step, seeded

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


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_seed_step__seeds_the_generator_of_the_device_too(monkeypatch, kind):
    """A repeated or resumed step on a GPU therefore draws the same again."""
    seeds = []
    monkeypatch.setattr(getattr(torch, kind), "manual_seed", seeds.append)
    steps = [(7, 1, 0), (7, 2, 0), (7, 1, 1), (7, 1, 0)]
    with torch.random.fork_rng(devices=[]):
        of_cpu = [seed_step(*s, torch.device(kind)) or torch.initial_seed() for s in steps]

    assert seeds == of_cpu
    assert seeds[0] == seeds[3]
    assert len(set(seeds)) == 3


def test_seeded__restores_the_generator_of_the_gpu(monkeypatch):
    kept, fork = [], torch.random.fork_rng

    @contextmanager
    def fork_rng(devices):
        kept.extend(devices)
        with fork(devices=[]):
            yield

    monkeypatch.setattr(torch.random, "fork_rng", fork_rng)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: None)
    with seeded(7, torch.device("cuda", 1)):
        pass

    assert kept == [torch.device("cuda", 1)]
