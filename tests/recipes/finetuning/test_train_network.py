"""Training a network: what is trained when, at which rates, and the proof that the rest stayed."""

import csv
import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import transferkit
from transferkit.errors import TransferKitError
from transferkit.training.lr_range_test import STEPS, judge

SMALL = {
    "backbone": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "batch_size": 6,
    "patience": 0,
}
FULL = {"strategy": "full", **SMALL}


def test_gradual__thaws_one_more_stage_at_a_time(pretrained, image_folder, tmp_path):
    result = transferkit.finetune(
        image_folder,
        tmp_path,
        strategy="gradual",
        head_start="random",
        epochs=8,
        freeze_epochs=2,
        **pretrained,
    )

    phases = [row.phase for row in result.history]
    assert phases == ["head", "head", "last:1", "last:2", "last:3", "last:4", "all", "all"]
    assert [row.lr_backbone > 0 for row in result.history] == [False] * 2 + [True] * 6
    for row in result.history[2:]:
        assert row.lr_head / row.lr_backbone == pytest.approx(10)
    frozen = result.metrics["frozen"]
    assert list(frozen["by_phase"]) == ["head", "last:1", "last:2", "last:3", "last:4", "all"]
    assert frozen["unchanged"] is True
    counts = list(frozen["by_phase"].values())
    assert counts == sorted(counts, reverse=True)
    assert frozen["tensors"] == counts[0] > 80
    assert [p.name for p in result.plan.phases] == list(frozen["by_phase"])
    assert [s.first_epoch for s in result.plan.stages] == [7, 6, 5, 4, 3, 1]


def test_bn_eval__keeps_the_statistics_and_trains_the_rest(pretrained, image_folder, tmp_path):
    for mode in ("eval", "train"):
        run = tmp_path / mode
        transferkit.finetune(image_folder, run, strategy="full", epochs=2, bn=mode, **pretrained)
    start = load_file(pretrained["backbone"].removeprefix("local-dir:") + "/model.safetensors")
    held, moved = (load_file(tmp_path / m / "model/model.safetensors") for m in ("eval", "train"))
    statistics = [name for name in start if "running_" in name]

    assert len(statistics) > 20
    assert all(torch.equal(start[name], held[name]) for name in statistics)
    assert not any(torch.equal(start[name], moved[name]) for name in statistics)
    assert not torch.equal(start["bn1.weight"], held["bn1.weight"])
    metrics = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert metrics["frozen"]["by_phase"]["all"] == len(
        [name for name in start if "running_" in name or "num_batches" in name]
    )


def test_finetune__takes_timms_optimizers_and_schedulers(pretrained, image_folder, tmp_path):
    result = transferkit.finetune(
        image_folder,
        tmp_path,
        strategy="full",
        epochs=3,
        optimizer="lion",
        scheduler="step",
        learning_rate=1e-4,
        **pretrained,
    )

    assert result.history[-1].lr_head == pytest.approx(1e-6)
    assert dict(result.plan.settings)["optimizer"].startswith("lion, step schedule")
    assert json.loads((tmp_path / "options.json").read_text())["optimizer"] == "lion"


def test_finetune__keeps_the_best_epoch_of_an_earlier_phase(
    pretrained, image_folder, tmp_path, monkeypatch
):
    """Stages that thawed after the best epoch must be restored as well."""
    from transferkit.recipes.finetuning import create_setup

    accuracies = iter([0.2, 0.9, 0.3, 0.1])
    monkeypatch.setattr(create_setup, "top_k_accuracy", lambda *_: next(accuracies))
    monkeypatch.setattr(create_setup, "log_loss", lambda *_: 1.0)
    transferkit.finetune(
        image_folder,
        tmp_path,
        strategy="gradual",
        head_start="random",
        epochs=4,
        bn="train",
        **pretrained,
    )

    start = load_file(pretrained["backbone"].removeprefix("local-dir:") + "/model.safetensors")
    kept = load_file(tmp_path / "model/model.safetensors")
    thawed_by_then = ("layer4.", "fc.")
    assert all(torch.equal(start[n], kept[n]) for n in start if not n.startswith(thawed_by_then))
    assert not any(torch.equal(start[n], kept[n]) for n in start if n.startswith("layer4.0.conv"))


def test_finetune__counts_patience_from_the_last_phase(
    pretrained, image_folder, tmp_path, monkeypatch
):
    from transferkit.recipes.finetuning import create_setup

    accuracies = iter([0.9, *[0.1] * 20])
    monkeypatch.setattr(create_setup, "top_k_accuracy", lambda *_: next(accuracies))
    monkeypatch.setattr(create_setup, "log_loss", lambda *_: 1.0)
    result = transferkit.finetune(
        image_folder,
        tmp_path,
        strategy="gradual",
        head_start="random",
        epochs=20,
        **pretrained | {"patience": 2},
    )

    # head, last:1 to last:4, then two epochs of all
    assert [row.phase for row in result.history][-3:] == ["last:4", "all", "all"]
    assert len(result.history) == 7


def test_finetune__fails_if_a_mode_is_set_wrongly(pretrained, image_folder, tmp_path, monkeypatch):
    """The proof follows from the plan, not from the modes that carry it out."""
    from transferkit.training import loop

    monkeypatch.setattr(loop, "train_mode", lambda module, batch_norm: module.train())

    with pytest.raises(TransferKitError, match=r"45 tensors changed .* frozen: conv1\."):
        transferkit.finetune(image_folder, tmp_path, epochs=1, **pretrained)
    assert (tmp_path / "history.csv").is_file()
    assert not (tmp_path / "model").exists()


def test_finetune__fails_if_a_frozen_tensor_changes(
    pretrained, image_folder, tmp_path, monkeypatch
):
    from transferkit.training import loop

    step = loop.training_step

    def leaking_step(setup, *batch):
        result = step(setup, *batch)
        setup.module.layer1[0].bn1.running_mean += 1e-3
        return result

    monkeypatch.setattr(loop, "training_step", leaking_step)
    with pytest.raises(
        TransferKitError, match=r"1 tensors changed .* frozen: layer1\.0\.bn1\.running_mean"
    ):
        transferkit.finetune(image_folder, tmp_path, strategy="gradual", epochs=6, **pretrained)
    assert not (tmp_path / "model").exists()


def test_partial__trains_the_last_stages_after_the_head(pretrained, image_folder, tmp_path):
    result = transferkit.finetune(
        image_folder, tmp_path, unfreeze="last:1", freeze_epochs=1, epochs=2, **pretrained
    )

    assert [row.phase for row in result.history] == ["head", "last:1"]


def test_finetune__trains_alike_with_and_without_estimates_of_other_strategies(
    estimates, image_folder, tmp_path, monkeypatch
):
    """The network has dropout; runs shorter than `_SOON` get no other estimates."""
    states = []
    for soon in (0.0, float("inf")):
        monkeypatch.setattr("transferkit.recipes.finetuning.estimate._SOON", soon)
        result = transferkit.finetune(
            image_folder,
            tmp_path / str(soon),
            backbone="torchvision:squeezenet1_1",
            weights="none",
            image_size=32,
            strategy="full",
            epochs=1,
            seed=3,
        )
        assert len(result.plan.seconds) == (4 if soon == 0 else 1)
        states.append(load_file(result.run / "model/model.safetensors"))

    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_finetune__leaves_the_callers_generators_alone(image_folder, tmp_path):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    transferkit.finetune(image_folder, tmp_path / "run", epochs=1, **SMALL)

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_lr_auto__trains_as_with_its_suggestion_given(
    fewer_steps, image_folder, tmp_path, precision
):
    """The range test therefore leaves weights and buffers unchanged."""
    settings = FULL | {"precision": precision, "epochs": 1, "seed": 5}
    found = transferkit.finetune(image_folder, tmp_path / "auto", learning_rate="auto", **settings)
    rate = found.range_test.suggestion
    given = transferkit.finetune(image_folder, tmp_path / "given", learning_rate=rate, **settings)

    first, second = (load_file(r.run / "model/model.safetensors") for r in (found, given))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert replace(found.plan, seconds=()) == replace(given.plan, seconds=())
    assert found.plan.stages[-1].learning_rate == rate


def test_lr_auto__keeps_the_estimate_in_the_plan(fewer_steps, image_folder, tmp_path):
    result = transferkit.finetune(
        image_folder, tmp_path / "r", learning_rate="auto", epochs=1, **FULL
    )
    written = json.loads((tmp_path / "r" / "plan.json").read_text("utf-8"))

    assert written["seconds"] == [list(pair) for pair in result.plan.seconds]
    assert written["seconds"][0][0] == "this run"


def test_lr_auto__replaces_no_run_without_a_suggestion(image_folder, tmp_path, monkeypatch):
    from transferkit.recipes.finetuning import train_network as recipe

    transferkit.finetune(image_folder, tmp_path, epochs=1, **FULL)
    files = {p.name for p in tmp_path.iterdir()}
    flat = judge([1e-6, 1e-3, 1.0], [2.0, 2.0, 2.0])
    monkeypatch.setattr(recipe, "find_learning_rate", lambda *_, **__: flat)

    with pytest.raises(TransferKitError, match=r"--lr auto: no rate made the loss fall"):
        transferkit.finetune(
            image_folder, tmp_path, learning_rate="auto", overwrite=True, epochs=1, **FULL
        )
    assert {p.name for p in tmp_path.iterdir()} == files


def test_find_lr__writes_a_curve_and_a_plot_but_no_model(fewer_steps, image_folder, tmp_path):
    result = transferkit.finetune(image_folder, tmp_path / "r", find_lr=True, **FULL)

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


def test_lr_auto__without_a_suggestion_is_an_error(image_folder, tmp_path, monkeypatch):
    from transferkit.recipes.finetuning import train_network as recipe

    flat = judge([1e-6, 1e-3, 1.0], [2.0, 2.0, 2.0])
    monkeypatch.setattr(recipe, "find_learning_rate", lambda *_, **__: flat)

    with pytest.raises(TransferKitError, match=r"--lr auto: no rate made the loss fall.*a number"):
        transferkit.finetune(image_folder, tmp_path, learning_rate="auto", epochs=1, **FULL)
