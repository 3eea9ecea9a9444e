"""The estimate of a run's time, on a clock that the test sets."""

from dataclasses import asdict
from types import SimpleNamespace

import pytest

import transferkit
from transferkit.recipes.finetuning import estimate, pace

pytestmark = pytest.mark.usefixtures("estimates")

TRAIN, VAL = 18, 6
"""Images in `image_folder`, by split."""


class Pace:
    """Made-up seconds per image; a step takes one second for every trained stage."""

    decode, forward = 1.0, 2.0

    def __init__(self, *_: object) -> None:
        """Measure nothing."""

    def step(self, phase, cut) -> float:
        return float(len(phase.trainable))


def test_estimate__adds_up_checking_reading_and_training(small, plan_of, monkeypatch):
    monkeypatch.setattr(estimate, "Pace", Pace)
    check, read = TRAIN + VAL, (TRAIN + VAL) * (Pace.decode + Pace.forward)
    trained = 20 * (TRAIN + VAL / 3)  # images; validation is a forward pass

    plan = plan_of(**small, epochs=20)

    assert dict(plan.seconds) == pytest.approx({
        "this run": check + read + trained,
        "head": check + read + trained,
        "last:1": check + read + 2 * trained,
        "full": check + (TRAIN + VAL) * Pace.decode + 6 * trained,
    })  # fmt: skip


def test_estimate__comes_from_measured_times(small, plan_of, monkeypatch):
    now = [0.0]

    def perf_counter():
        now[0] += 0.4
        return now[0]

    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=perf_counter))
    # Any work takes one tick of the clock: decoding all images after the first, or a batch of 16.
    decoded, passed = (TRAIN + VAL) * 0.4 / (TRAIN - 1), (TRAIN + VAL) * 0.4 / 16
    trained = 20 * (TRAIN + VAL / 3) * 0.4 / 16

    plan = plan_of(**small, epochs=20)

    assert dict(plan.seconds) == pytest.approx({
        "this run": 2 * decoded + passed + trained,
        "head": 2 * decoded + passed + trained,
        "last:1": 2 * decoded + passed + trained,
        "full": 2 * decoded + trained,
    })  # fmt: skip


def test_estimate__leaves_the_random_state_alone(small, image_folder, tmp_path, monkeypatch):
    def history(name):
        options = small | {"strategy": "full", "epochs": 1}
        result = transferkit.finetune(image_folder, tmp_path / name, **options)
        return [{**asdict(row), "seconds": 0} for row in result.history]

    with_it = history("1")
    monkeypatch.setattr(
        "transferkit.recipes.finetuning.train_network.estimate_seconds", lambda *_: ()
    )

    assert history("2") == with_it
