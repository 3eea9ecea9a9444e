"""The learning rate range test: the loss while the rate rises from far too low to too high.

Smith, Cyclical Learning Rates for Training Neural Networks, WACV 2017, section 3.3.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count, islice

import numpy as np
import torch

from transferkit.errors import TransferKitError
from transferkit.models.freezing import freeze, train_mode
from transferkit.models.stages import HEAD
from transferkit.models.strategies import Phase
from transferkit.training.setup import PhaseData, TrainingSetup
from transferkit.training.step import training_step

STEPS = 60
LOWEST, HIGHEST = 1e-6, 1.0
"""The head's learning rate at the first and at the last step."""

_SMOOTHING = 0.9
_DIVERGED = 4.0
"""Stop once the smoothed loss exceeds its minimum by this factor."""

_FALLEN = 0.95
"""The loss has fallen if the smoothed minimum is below this share of the first loss."""


@dataclass(frozen=True)
class RangeTest:
    """Result of a range test.

    Attributes:
        rates: The head's learning rate at each step, rising geometrically.
        losses: The training loss of each step, in nats.
        smoothed: Its bias-corrected exponential moving average.
        suggestion: A learning rate for the head; None when no rate made the loss fall.
        reason: Reason for the suggestion, or for having none.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    reason: str


def find_learning_rate(
    setup: TrainingSetup, phase: Phase, *, report: Callable[[int, str], None]
) -> RangeTest:
    """Train for up to `STEPS` steps with rising rates and suggest a learning rate.

    The rates of all stages rise together and keep the ratios of the setup's optimizer. The test
    trains the setup's module and optimizer, so pass copies. It restores the states of all random
    generators.

    Args:
        setup: A setup to use up; its schedule must leave the rates unchanged.
        phase: The phase whose parameters are trained.
        report: Receives the number of images of each step, and its rate and loss as text.
    """
    with _random_state_kept(setup.device):
        freeze(setup.module, phase.parameters)
        train_mode(setup.module, setup.batch_norm)
        rates, losses = _sweep(setup, setup.data_of(phase), report)
    return judge(rates, losses)


def judge(rates: list[float], losses: list[float]) -> RangeTest:
    """Suggest a learning rate from the losses of a sweep.

    The suggestion is a tenth of the rate at which the smoothed loss was lowest: there the loss is
    about to rise, while one order of magnitude below it still falls quickly.

    Args:
        rates: The rate of each step, rising.
        losses: The loss of each step; the last one may be NaN or infinite.

    Raises:
        TransferKitError: When the first loss is not finite.
    """
    if not np.isfinite(losses[0]):
        raise TransferKitError(
            f"the range test began with a loss of {losses[0]}; try --precision fp32"
        )
    smoothed = _smoothed(losses)
    lowest = int(np.nanargmin(smoothed))
    start, low = smoothed[0], smoothed[lowest]
    if low > _FALLEN * start:
        suggestion = None
        reason = f"no rate made the loss fall: it began at {start:.3f}, its minimum was {low:.3f}"
    else:
        suggestion = float(f"{rates[lowest] / 10:.1e}")
        reason = (
            f"a tenth of {rates[lowest]:.1e}, where the smoothed loss was lowest: {low:.3f}, down "
            f"from {start:.3f}"
        )
    return RangeTest(tuple(rates), tuple(losses), tuple(smoothed), suggestion, reason)


def _sweep(
    setup: TrainingSetup, data: PhaseData, report: Callable[[int, str], None]
) -> tuple[list[float], list[float]]:
    groups = setup.optimizer.param_groups
    head = next(group["lr"] for group in groups if group["stage"] == HEAD)
    shares = [group["lr"] / head for group in groups]
    rates, losses = [], []
    batches = chain.from_iterable(map(data.epoch, count(1)))
    for rate, batch in zip(
        np.geomspace(LOWEST, HIGHEST, STEPS), islice(batches, STEPS), strict=True
    ):
        for group, share in zip(groups, shares, strict=True):
            group["lr"] = float(rate) * share
        loss, _ = training_step(setup, data.trained, batch)
        rates.append(float(rate))
        losses.append(float(setup.processes.total(loss)))
        report(len(batch.all_labels), f"lr {rate:.1e} loss {losses[-1]:.3f}")
        smoothed = _smoothed(losses)
        if not smoothed[-1] <= _DIVERGED * min(smoothed):
            break  # NaN fails the comparison, so it ends the sweep too
    return rates, losses


def _smoothed(losses: list[float]) -> list[float]:
    """Return the exponential moving average, bias-corrected by the sum of its weights."""
    mean, smoothed = 0.0, []
    for step, loss in enumerate(losses, start=1):
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        smoothed.append(mean / (1 - _SMOOTHING**step))
    return smoothed


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
