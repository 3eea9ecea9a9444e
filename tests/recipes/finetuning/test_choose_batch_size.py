"""The batch size of a run, by the memory of a GPU that is only pretended."""

import json
from dataclasses import dataclass

import pytest
import torch

import transferkit
from transferkit.compute import ComputeSettings
from transferkit.devices import Precision
from transferkit.models.create_network import create_network
from transferkit.models.strategies import Phase
from transferkit.models.unfreeze import HEAD_ALONE, last_stages
from transferkit.processes import ALONE, Processes
from transferkit.recipes.finetuning import choose_batch_size as module
from transferkit.recipes.finetuning.choose_batch_size import choose_batch_size


@pytest.fixture
def network():
    return create_network("test_resnet", weights="none", num_classes=3, image_size=32)


@pytest.fixture
def kept(monkeypatch) -> list[int]:
    """Bytes that are kept for later, on a GPU that holds 256 images."""
    given = []

    def fitting(step, device, *, kept):
        step(3)
        given.append(kept)
        return 256

    monkeypatch.setattr(module, "fitting_batch_size", fitting)
    return given


def settings(kind):
    return ComputeSettings(torch.device(kind), Precision.FP32, 32, 1)


@dataclass(frozen=True)
class Two(Processes):
    """Two processes, of which the other one has a GPU that holds 128 images."""

    count: int = 2

    def lowest(self, number):
        return min(number, 128)


@pytest.mark.parametrize(
    ("images", "processes", "expected"),
    [
        (10**6, ALONE, 256),
        (3000, ALONE, 128),  # 23 steps
        (100, ALONE, 32),
        (10**6, Two(), 256),
    ],
)
def test_batch_size__fits_and_leaves_an_epoch_its_steps(network, kept, images, processes, expected):
    phase = Phase.of(network, HEAD_ALONE, range(1, 3))

    assert choose_batch_size(network, phase, settings("cuda"), images, processes) == expected


@pytest.mark.parametrize("unfreeze", [HEAD_ALONE, last_stages(1), last_stages(5)])
def test_measured_step__trains_the_phase_and_keeps_nothing(network, kept, unfreeze):
    phase = Phase.of(network, unfreeze, range(1, 3))
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    choose_batch_size(network, phase, settings("cuda"), 10**6, ALONE)

    trained = [p for n, p in network.module.named_parameters() if n in phase.parameters]
    assert kept == [2 * sum(p.nbytes for p in trained)]
    assert [p for p in network.module.parameters() if p.grad is not None] == []
    after = network.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_batch_size__is_the_usual_one_on_a_cpu(network):
    phase = Phase.of(network, HEAD_ALONE, range(1, 3))

    assert choose_batch_size(network, phase, settings("cpu"), 10**6, ALONE) == 32


def test_commands__take_auto_on_a_cpu(few_images, tmp_path):
    run = tmp_path / "run"
    transferkit.finetune(
        few_images, run, backbone="test_resnet", weights="none", batch_size="auto", epochs=1
    )
    predicted = transferkit.predict(
        sorted(map(str, few_images.rglob("*.png"))), model=str(run), batch_size="auto"
    )

    assert json.loads((run / "options.json").read_text())["batch_size"] == 32
    assert len(predicted) == 12
