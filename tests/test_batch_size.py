"""The batch size by memory: of a GPU whose memory is a formula, because there may be none here."""

import pytest
import torch

from transferkit import batch_size
from transferkit.batch_size import fitting_batch_size, power_of_two

GPU = torch.device("cuda", 0)
MEGABYTE = 10**6


@pytest.fixture
def gpu(monkeypatch):
    """`gpu(free, constant, each)` is a GPU with so many free megabytes, and what a batch takes."""
    computed = []

    def create(free, *, constant=0, each=0):
        def peak(run, device):
            run()
            return (constant + each * computed[-1]) * MEGABYTE

        monkeypatch.setattr(batch_size, "_peak", peak)
        monkeypatch.setattr(batch_size, "_free", lambda device: free * MEGABYTE)
        return computed.append

    create.computed = computed
    return create


@pytest.mark.parametrize(
    ("free", "constant", "each", "expected"),
    [
        (1000, 0, 10, 64),  # four fifths of it hold 80
        (1640, 0, 10, 128),
        (1640, 100, 10, 64),
        (10**6, 100, 1, 1024),  # the most
        (100, 50, 10, 32),  # the usual number, although it does not fit
        (1000, 5, 0, 1024),  # what takes no memory
    ],
)
def test_fitting_batch_size__is_the_largest_power_of_two_that_fits(
    gpu, free, constant, each, expected
):
    compute = gpu(free, constant=constant, each=each)

    assert fitting_batch_size(compute, GPU) == expected
    assert max(gpu.computed) == 32


def test_fitting_batch_size__leaves_room_for_what_comes_later(gpu):
    compute = gpu(1640, each=10)

    assert fitting_batch_size(compute, GPU, kept=40 * MEGABYTE) == 64


def test_fitting_batch_size__is_the_usual_one_where_even_that_runs_out_of_memory(gpu):
    def compute(count):
        if count > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        gpu.computed.append(count)

    gpu(1000, each=10)

    assert fitting_batch_size(compute, GPU) == 32


def test_fitting_batch_size__passes_other_errors_on(gpu):
    def compute(count):
        raise RuntimeError("another")

    gpu(1000, each=10)
    with pytest.raises(RuntimeError, match="another"):
        fitting_batch_size(compute, GPU)


def test_power_of_two__is_the_largest_up_to_a_number():
    assert [power_of_two(n) for n in (-3, 0, 1, 2, 3, 64, 127)] == [0, 0, 1, 2, 2, 64, 64]
