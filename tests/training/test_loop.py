"""The training loop alone: a resumed run is identical to an uninterrupted one."""

import copy
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from notices import Notices
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from transferkit.devices import Precision, create_scaler
from transferkit.models.create_network import create_network
from transferkit.models.freezing import BatchNorm
from transferkit.models.strategies import Strategy, plan_phases
from transferkit.models.unfreeze import HEAD_ALONE
from transferkit.reporter import SILENT, SilentReporter, silent
from transferkit.training import loop
from transferkit.training.loop import fit
from transferkit.training.loss import Criterion
from transferkit.training.optimizer import create_optimizer
from transferkit.training.schedule import Scheduler, create_schedule
from transferkit.training.setup import Batch, PhaseData, TrainingSetup, Validation
from transferkit.training.state import TrainingState

EPOCHS = 6


def network_and_phases():
    torch.manual_seed(0)
    network = create_network("test_resnet", weights="none", num_classes=3, image_size=32)
    phases = plan_phases(
        network,
        strategy=Strategy.GRADUAL,
        unfreeze=HEAD_ALONE,
        epochs=EPOCHS,
        freeze_epochs=1,
        thaw_every=1,
    )
    return network, phases


def setup_of(network, phases):
    rates = {stage.name: 1e-3 for stage in network.stages}
    stages = phases[-1].trainable
    optimizer = create_optimizer(
        network.module, stages, name="adamw", rates=rates, weight_decay=0.1
    )
    schedule = create_schedule(optimizer, Scheduler.COSINE, steps=2 * EPOCHS)
    device, module = torch.device("cpu"), network.module
    labels = torch.tensor([0, 1, 2, 0])

    def batches(epoch, start):
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(2):
            inputs = torch.rand(4, 3, 32, 32, generator=generator)
            if (start := start - 1) < 0:
                yield Batch(inputs, labels, labels)

    def validate():
        module.eval()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(module(torch.ones(4, 3, 32, 32)), labels)
        return Validation(float(loss), 0.5, np.zeros((4, 3), dtype=np.float32))

    return TrainingSetup(
        module=module,
        trained=phases[-1].parameters,
        device=device,
        precision=Precision.FP32,
        scaler=create_scaler(device, Precision.FP32),
        optimizer=optimizer,
        schedule=schedule,
        criterion=Criterion(None, 0.0, device),
        batch_norm=BatchNorm.TRAIN,
        data_of=lambda phase: PhaseData(module, lambda epoch: None, batches, validate),
        images_per_epoch=8,
    )


class Interrupts(SilentReporter):
    """A reporter that interrupts the run after an epoch and keeps what a checkpoint would hold."""

    def __init__(self, after, setup, so_far):
        self.after, self.setup, self.so_far = after, setup, so_far
        self.kept = None

    def epoch(self, row, epochs, best):
        if row.epoch == self.after:
            states = (self.setup.module, self.setup.optimizer)
            self.kept = copy.deepcopy([part.state_dict() for part in states])
            self.kept += [self.setup.schedule.done, copy.deepcopy(self.so_far)]
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def uninterrupted():
    network, phases = network_and_phases()
    result = fit(setup_of(network, phases), phases, patience=0, reporter=SILENT)
    return network.module.state_dict(), result


@pytest.mark.parametrize("after", range(1, EPOCHS))
def test_fit__resumes_to_the_same_weights_and_freezes_nothing_again(after, uninterrupted):
    network, phases = network_and_phases()
    setup, so_far = setup_of(network, phases), TrainingState()
    reporter = Interrupts(after, setup, so_far)
    with pytest.raises(KeyboardInterrupt):
        fit(setup, phases, patience=0, reporter=reporter, so_far=so_far)
    weights, optimizer_state, done, reached = reporter.kept

    network, phases = network_and_phases()
    setup = setup_of(network, phases)
    setup.module.load_state_dict(weights)
    setup.optimizer.load_state_dict(optimizer_state)
    setup.schedule.go_to(done)
    result = fit(setup, phases, patience=0, reporter=SILENT, so_far=reached)

    state, expected = uninterrupted
    assert all(torch.equal(state[name], v) for name, v in network.module.state_dict().items())
    assert [row.phase for row in result.history] == [row.phase for row in expected.history]
    assert [row.phase for row in result.history][after:] != ["head"] * (EPOCHS - after)
    assert result.best == expected.best
    for one, other in zip(result.history, expected.history, strict=True):
        assert {**asdict(one), "seconds": 0} == {**asdict(other), "seconds": 0}
    # Stages that thawed before the interruption are still trained after it.
    assert {n for n, p in network.module.named_parameters() if p.requires_grad} == (
        phases[-1].parameters
    )


def test_fit__proves_every_phase(uninterrupted):
    _, result = uninterrupted

    assert list(result.frozen) == ["head", "last:1", "last:2", "last:3", "last:4", "all"]
    assert result.frozen["all"] == 0
    assert result.images == 8 * EPOCHS


@pytest.mark.parametrize(("left", "images"), [(0.0, 4), (1e-9, 8)])
def test_fit__ends_when_no_time_is_left_for_another_step_or_epoch(left, images):
    network, phases = network_and_phases()
    setup, notices = setup_of(network, phases), Notices()
    result = fit(setup, phases, patience=0, reporter=notices, seconds_left=lambda: left)

    assert (len(result.history), result.images, result.best) == (1, images, 0)
    assert result.is_out_of_time
    assert list(result.frozen) == ["head"]
    assert notices.all == ["stopped early: the time for training is spent"]


def test_fit__goes_on_where_only_the_frozen_layers_took_long(monkeypatch):
    """Their first pass takes 100 s, and later epochs read it from a cache."""
    network, phases = network_and_phases()
    clock = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    setup = setup_of(network, phases)

    def prepare(epoch):
        clock[0] += 100.0 if epoch == 1 else 0.0

    result = fit(
        replace(setup, data_of=lambda phase: replace(setup.data_of(phase), prepare=prepare)),
        phases,
        patience=0,
        reporter=SILENT,
        seconds_left=lambda: 50.0,
    )

    assert result.history[0].seconds == 100
    assert len(result.history) == EPOCHS


def test_fit__trains_every_epoch_that_there_is_time_for():
    network, phases = network_and_phases()

    result = fit(
        setup_of(network, phases), phases, patience=0, reporter=SILENT, seconds_left=lambda: 1e9
    )

    assert (len(result.history), result.is_out_of_time) == (EPOCHS, False)


class Readings(TorchDispatchMode):
    """Counts the numbers that are read off tensors, for which a GPU would be waited."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.scalars = self.lists = 0
        read = Tensor.tolist

        def tolist(tensor):
            self.lists += 1
            return read(tensor)

        monkeypatch.setattr(Tensor, "tolist", tolist)
        for name in ("cpu", "numpy"):
            monkeypatch.setattr(Tensor, name, None)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.scalars += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("follows_steps", [False, True])
@pytest.mark.parametrize("scales", [False, True])
def test_steps__are_waited_for_every_tenth_time_only(monkeypatch, scales, follows_steps):
    network, phases = network_and_phases()
    labels = torch.tensor([0, 1])
    batches = [Batch(torch.rand(2, 3, 32, 32), labels, labels) for _ in range(25)]
    data = PhaseData(
        network.module,
        lambda epoch: None,
        lambda epoch, skip: iter(batches),
        lambda: Validation(0.0, 0.5, np.zeros((4, 3), dtype=np.float32)),
    )
    setup = replace(
        setup_of(network, phases),
        data_of=lambda phase: data,
        images_per_epoch=50,
        scaler=torch.amp.GradScaler("cpu", enabled=scales),
    )
    whole = replace(phases[-1], epochs=range(1, 2))
    with Readings(monkeypatch) as readings:
        fit(setup, [whole], patience=0, reporter=silent(follows_steps=follows_steps))

    # After steps 1, 11 and 21, and at the end of the epoch.
    assert (readings.scalars, readings.lists) == (0, 4)
