"""The learning rate range test: its suggestion, and the random states it restores."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from transferkit.devices import Precision, create_scaler
from transferkit.errors import TransferKitError
from transferkit.models.freezing import BatchNorm
from transferkit.models.stages import HEAD, Stage
from transferkit.models.strategies import Phase
from transferkit.training.loss import Criterion
from transferkit.training.lr_range_test import HIGHEST, LOWEST, STEPS, find_learning_rate, judge
from transferkit.training.optimizer import create_optimizer
from transferkit.training.schedule import Scheduler, create_schedule
from transferkit.training.setup import Batch, PhaseData, TrainingSetup

SMALL = {
    "backbone": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "batch_size": 6,
    "strategy": "full",
}


def valley(lowest: float) -> tuple[list[float], list[float]]:
    """Return losses that fall until `lowest` and then rise steeply."""
    rates = list(np.geomspace(LOWEST, HIGHEST, STEPS))
    losses = [2 - 1.5 / (1 + (lowest / 30 / r) ** 2) + (r / lowest / 3) ** 3 for r in rates]
    return rates, losses


@pytest.mark.parametrize("lowest", [1e-3, 1e-2, 1e-1])
def test_judge__suggests_a_tenth_of_the_rate_with_the_lowest_loss(lowest):
    test = judge(*valley(lowest))

    at = test.rates[int(np.argmin(test.smoothed))]
    assert test.suggestion == pytest.approx(at / 10, rel=0.05)
    assert lowest / 30 < test.suggestion < lowest / 2
    assert "a tenth of" in test.reason


def test_judge__ignores_a_last_loss_that_is_not_finite():
    rates, losses = valley(1e-2)

    assert judge(rates, [*losses[:-1], float("nan")]).suggestion == judge(rates, losses).suggestion


def test_judge__suggests_nothing_if_no_rate_helps():
    rates, _ = valley(1e-2)
    test = judge(rates, [2.0] * STEPS)

    assert test.suggestion is None
    assert test.reason == "no rate made the loss fall: it began at 2.000, its minimum was 2.000"


def test_judge__refuses_a_first_loss_that_is_not_finite():
    with pytest.raises(TransferKitError, match="began with a loss of nan; try --precision fp32"):
        judge([1e-6, 1e-5], [float("nan"), 1.0])


def test_judge__smooths_without_bias_towards_the_first_step():
    test = judge([1e-3, 1e-2, 1e-1], [1.0, 2.0, 0.0])

    assert test.smoothed == pytest.approx([1.0, 2.9 / 1.9, 0.261 / 0.271])


def test_find_learning_rate__restores_all_random_states():
    """The network has dropout, and the batches draw from every random generator."""
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    names = [name for name, _ in module.named_parameters()]
    stages = (Stage("stem", tuple(names[:2]), ("0",)), Stage(HEAD, tuple(names[2:]), ("2",)))
    rates = {"stem": 1e-4, HEAD: 1e-3}
    optimizer = create_optimizer(module, stages, name="adamw", rates=rates, weight_decay=0)

    def batches(epoch, start):
        for _ in range(5):
            shift = random.random() + np.random.rand()
            labels = torch.arange(6) % 3
            yield Batch(torch.randn(6, 4) + shift, labels, labels)

    setup = TrainingSetup(
        module=module,
        trained=frozenset(names),
        device=torch.device("cpu"),
        precision=Precision.FP32,
        scaler=create_scaler(torch.device("cpu"), Precision.FP32),
        optimizer=optimizer,
        schedule=create_schedule(optimizer, Scheduler.NONE, steps=STEPS),
        criterion=Criterion(None, 0.0, torch.device("cpu")),
        batch_norm=BatchNorm.TRAIN,
        data_of=lambda phase: PhaseData(module, lambda epoch: None, batches, lambda: None),
        images_per_epoch=30,
    )
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    phase = Phase("all", range(1, 2), stages, frozenset())
    test = find_learning_rate(setup, phase, report=lambda *_: None)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    assert before == after
    assert len(set(test.losses)) > 10
    assert test.rates[0] == pytest.approx(LOWEST)
