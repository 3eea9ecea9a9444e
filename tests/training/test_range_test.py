"""The learning rate range test: what it suggests, and that it leaves no trace."""

import csv
import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import transferkit
from transferkit.cli.curve import draw_curve
from transferkit.devices import Precision, create_scaler
from transferkit.errors import TransferKitError
from transferkit.models.freezing import BatchNorm
from transferkit.models.phases import Phase
from transferkit.models.stages import HEAD, Stage
from transferkit.training.loss import Criterion
from transferkit.training.optimizer import create_optimizer
from transferkit.training.range_test import HIGHEST, LOWEST, STEPS, find_learning_rate, judge
from transferkit.training.schedule import Scheduler, create_schedule
from transferkit.training.setup import PhaseData, TrainingSetup

SMALL = {
    "backbone": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "batch_size": 6,
    "strategy": "full",
}


def valley(lowest: float) -> tuple[list[float], list[float]]:
    """A loss that falls until `lowest` and then rises steeply."""
    rates = list(np.geomspace(LOWEST, HIGHEST, STEPS))
    losses = [2 - 1.5 / (1 + (lowest / 30 / r) ** 2) + (r / lowest / 3) ** 3 for r in rates]
    return rates, losses


@pytest.mark.parametrize("lowest", [1e-3, 1e-2, 1e-1])
def test_judge__suggests_a_tenth_of_where_the_loss_is_lowest(lowest):
    test = judge(*valley(lowest))

    at = test.rates[int(np.argmin(test.smoothed))]
    assert test.suggestion == pytest.approx(at / 10, rel=0.05)
    assert lowest / 30 < test.suggestion < lowest / 2
    assert "a tenth of" in test.reason


def test_judge__ignores_a_last_loss_that_is_no_number():
    rates, losses = valley(1e-2)

    assert judge(rates, [*losses[:-1], float("nan")]).suggestion == judge(rates, losses).suggestion


def test_judge__suggests_nothing_where_no_rate_helps():
    rates, _ = valley(1e-2)
    test = judge(rates, [2.0] * STEPS)

    assert test.suggestion is None
    assert test.reason == "no rate made the loss fall: it began at 2.000 and was at best 2.000"


def test_judge__says_when_there_is_no_loss_at_all():
    with pytest.raises(TransferKitError, match="began with a loss of nan; try --precision fp32"):
        judge([1e-6, 1e-5], [float("nan"), 1.0])


def test_judge__smooths_without_bias_towards_the_first_step():
    test = judge([1e-3, 1e-2, 1e-1], [1.0, 2.0, 0.0])

    assert test.smoothed == pytest.approx([1.0, 2.9 / 1.9, 0.261 / 0.271])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_lr_auto__trains_as_with_the_rate_it_found(image_folder, tmp_path, precision):
    """So the test left weights and buffers as they were."""
    settings = SMALL | {"precision": precision, "epochs": 2, "seed": 5}
    found = transferkit.finetune(image_folder, tmp_path / "auto", learning_rate="auto", **settings)
    rate = found.range_test.suggestion
    given = transferkit.finetune(image_folder, tmp_path / "given", learning_rate=rate, **settings)

    first, second = (load_file(r.run / "model/model.safetensors") for r in (found, given))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert replace(found.plan, seconds=()) == replace(given.plan, seconds=())
    assert found.plan.stages[-1].learning_rate == rate


def test_lr_auto__keeps_the_estimate_in_the_plan(image_folder, tmp_path):
    result = transferkit.finetune(
        image_folder, tmp_path / "r", learning_rate="auto", epochs=1, **SMALL
    )
    written = json.loads((tmp_path / "r" / "plan.json").read_text("utf-8"))

    assert written["seconds"] == [list(pair) for pair in result.plan.seconds]
    assert written["seconds"][0][0] == "this run"


def test_find_learning_rate__puts_all_random_states_back():
    """With dropout in the network and batches that draw from every generator."""
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    names = [name for name, _ in module.named_parameters()]
    stages = (Stage("stem", tuple(names[:2]), ("0",)), Stage(HEAD, tuple(names[2:]), ("2",)))
    rates = {"stem": 1e-4, HEAD: 1e-3}
    optimizer = create_optimizer(module, stages, name="adamw", rates=rates, weight_decay=0)

    def batches(epoch, start):
        for _ in range(5):
            shift = random.random() + np.random.rand()
            yield torch.randn(6, 4) + shift, torch.arange(6) % 3

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


def test_lr_auto__keeps_the_run_that_it_cannot_replace(image_folder, tmp_path, monkeypatch):
    from transferkit.recipes.finetuning import train_network as recipe

    transferkit.finetune(image_folder, tmp_path, epochs=1, **SMALL)
    files = {p.name for p in tmp_path.iterdir()}
    flat = judge([1e-6, 1e-3, 1.0], [2.0, 2.0, 2.0])
    monkeypatch.setattr(recipe, "find_learning_rate", lambda *_, **__: flat)

    with pytest.raises(TransferKitError, match=r"--lr auto: no rate made the loss fall"):
        transferkit.finetune(
            image_folder, tmp_path, learning_rate="auto", overwrite=True, epochs=1, **SMALL
        )
    assert {p.name for p in tmp_path.iterdir()} == files


def test_find_lr__leaves_curve_and_plot_and_no_model(image_folder, tmp_path):
    result = transferkit.finetune(image_folder, tmp_path / "r", find_lr=True, **SMALL)

    files = sorted(p.name for p in (tmp_path / "r").iterdir())
    assert files == [
        "find_lr.csv", "find_lr.png", "options.json", "plan.json", "skipped.csv", "split.csv",
    ]  # fmt: skip
    with (tmp_path / "r" / "find_lr.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["learning_rate", "loss", "smoothed_loss"]
    assert [float(row["learning_rate"]) for row in rows] == list(result.range_test.rates)
    assert len(rows) <= STEPS
    with Image.open(tmp_path / "r" / "find_lr.png") as plot:
        assert plot.size == (840, 504)
    assert result.metrics == {}
    assert 1e-5 < result.range_test.suggestion < 1


def test_find_lr__is_shown_with_its_reason(cli, image_folder, tmp_path):
    run = tmp_path / "r"
    words = ("-b", "test_resnet", "--weights", "none", "--image-size", 32, "--strategy", "full")
    ran = cli("finetune", image_folder, "-o", run, "--find-lr", *words)

    assert ran.code == 0
    assert "•" in ran.out
    assert "┊" in ran.out
    assert "suggestion: --lr " in ran.out
    assert f"plot: {run}/find_lr.png" in ran.out
    assert max(map(len, ran.out.split("suggestion:")[0].splitlines())) <= 75

    again = cli("finetune", image_folder, "-o", run, *words)
    assert again.code == 1
    assert "--overwrite" in again.err
    replaced = cli("finetune", image_folder, "-o", run, "--overwrite", "--epochs", 1, *words)
    assert replaced.code == 0
    assert not (run / "find_lr.png").exists()


def test_lr_auto__says_when_it_found_none(image_folder, tmp_path, monkeypatch):
    from transferkit.recipes.finetuning import train_network as recipe

    flat = judge([1e-6, 1e-3, 1.0], [2.0, 2.0, 2.0])
    monkeypatch.setattr(recipe, "find_learning_rate", lambda *_, **__: flat)

    with pytest.raises(TransferKitError, match=r"--lr auto: no rate made the loss fall.*a number"):
        transferkit.finetune(image_folder, tmp_path, learning_rate="auto", epochs=1, **SMALL)


def test_print_range_test__draws_nothing_of_a_single_step(capsys, tmp_path):
    from transferkit.cli.console import print_range_test, standard_output

    test = judge([1e-6, 1e-5], [1.0, float("nan")])
    print_range_test(test, tmp_path / "find_lr.png", standard_output())

    assert capsys.readouterr().out.startswith("no suggestion: no rate made the loss fall")


def test_draw_curve__puts_points_and_mark_where_they_belong():
    lines = draw_curve([1e-4, 1e-3, 1e-2, 1e-1], [3.0, 2.0, 1.0, 2.0], mark=1e-3).splitlines()

    assert lines[0].startswith("    3.00 │•")
    assert lines[11].startswith("    1.00 │")
    assert lines[11].index("•") == 10 + 42
    assert all(line[10 + 21] in "┊•" for line in lines[:12])
    assert lines[13].split() == ["1e-04", "1e-01"]
