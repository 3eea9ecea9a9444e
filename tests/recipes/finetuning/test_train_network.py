"""Strategies through the recipe: what is trained when, at which rates, and what is proved of it."""

import json

import pytest
import torch
from safetensors.torch import load_file

import transferkit
from transferkit.errors import OptionError, TransferKitError
from transferkit.options.finetune import FinetuneOptions

SMALL = {
    "backbone": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "batch_size": 6,
    "patience": 0,
}
FULL = {"strategy": "full"}


@pytest.fixture(scope="module")
def pretrained(run_folder):
    """A backbone with weights that were trained, to start from."""
    return SMALL | {"backbone": f"local-dir:{run_folder}/model", "weights": "pretrained"}


def test_gradual__thaws_a_stage_more_at_a_time(pretrained, image_folder, tmp_path):
    result = transferkit.finetune(
        image_folder, tmp_path, strategy="gradual", epochs=8, freeze_epochs=2, **pretrained
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


def test_full__begins_with_the_head_alone_where_weights_are_pretrained(
    pretrained, image_folder, tmp_path
):
    by_default = FinetuneOptions(image_folder, strategy="full", dry_run=True, **pretrained)
    from transferkit.recipes.finetune import finetune

    plan = finetune(by_default).plan
    assert [(p.name, p.epochs) for p in plan.phases] == [("head", (1, 1)), ("all", (2, 10))]
    assert "the first epoch for the head alone" in dict(plan.settings)["strategy"]

    options = FinetuneOptions(
        image_folder, strategy="full", freeze_epochs=0, dry_run=True, **pretrained
    )
    plan = finetune(options).plan
    assert [(p.name, p.epochs) for p in plan.phases] == [("all", (1, 10))]
    assert dict(plan.settings)["strategy"] == "full (everything)"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 1e-2),
        ({"learning_rate": 2e-3}, 2e-3),
        ({"learning_rate": "auto"}, 1e-3),
        ({"unfreeze": "last:1"}, 1e-3),
        ({"strategy": "full"}, 1e-3),
    ],
)
def test_plan__a_head_alone_learns_at_a_larger_rate(image_folder, settings, expected):
    from transferkit.recipes.finetune import finetune

    plan = finetune(FinetuneOptions(image_folder, dry_run=True, **SMALL | settings)).plan

    assert plan.stages[-1].learning_rate == expected


def test_full__from_random_weights_spares_nothing(image_folder):
    from transferkit.recipes.finetune import finetune

    plan = finetune(FinetuneOptions(image_folder, strategy="full", dry_run=True, **SMALL)).plan

    assert [p.name for p in plan.phases] == ["all"]
    assert {stage.learning_rate for stage in plan.stages} == {1e-3}
    assert dict(plan.settings)["batchnorm"].startswith("train")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"strategy": "full"}, True),
        ({"unfreeze": "last:1"}, True),
        ({"unfreeze": "head"}, False),
        ({"strategy": "full", "backbone": "test_vit", "weights": "none"}, False),
    ],
)
def test_plan__speaks_of_batchnorm_where_some_is_trained(pretrained, image_folder, settings, told):
    from transferkit.recipes.finetune import finetune

    options = FinetuneOptions(image_folder, dry_run=True, **{**pretrained, **settings})

    assert ("batchnorm" in dict(finetune(options).plan.settings)) is told


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [6.25e-6, 1.25e-5, 2.5e-5, 5e-5, 1e-4, 1e-3]),
        ({"learning_rate": 2e-3, "layer_decay": 1}, [2e-4] * 5 + [2e-3]),
        (
            {"backbone_learning_rate": 1e-2, "layer_decay": 0.1},
            [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-3],
        ),
        ({"learning_rate": "1e-8:1e-3"}, [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3]),
        ({"learning_rate": [1e-8, 1e-3]}, [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3]),
    ],
)
def test_plan__has_a_rate_a_stage(pretrained, image_folder, settings, expected):
    from transferkit.recipes.finetune import finetune

    options = FinetuneOptions(
        image_folder, strategy="full", dry_run=True, **{**pretrained, **settings}
    )

    rates = [stage.learning_rate for stage in finetune(options).plan.stages]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": "1e-3:1e-5"} | FULL, "--lr: got 0.001:1e-05, expected the stem's rate"),
        ({"learning_rate": "1e-5:1e-3", "layer_decay": 0.5} | FULL, "leave out --backbone-lr and"),
        ({"learning_rate": "1e-5:1e-3", "backbone_learning_rate": 1} | FULL, "leave out --backb"),
        ({"learning_rate": "auto", "backbone_learning_rate": 1} | FULL, "a range test scales all"),
        ({"find_lr": True, "backbone_learning_rate": 1} | FULL, "a range test scales all"),
        ({"find_lr": True, "learning_rate": [1e-5, 1e-3]} | FULL, "a range test scales all"),
        ({"learning_rate": (1e-5, 1e-4, 1e-3)} | FULL, "--lr: got 1e-05:0.0001:0.001, expected"),
        ({"learning_rate": "1e-5:1e-3"}, "--lr A:B: --unfreeze head leaves the backbone unchanged"),
        ({"backbone_learning_rate": 1e-3}, "--backbone-lr: --unfreeze head leaves the backbone"),
        ({"layer_decay": 0.5}, "--layer-decay: --unfreeze head leaves the backbone"),
        ({"bn": "train"}, "--bn: --unfreeze head leaves the backbone"),
        ({"learning_rate": "fast"}, "--lr: 'fast' is neither a number, nor two"),
        ({"learning_rate": "0:1"}, "--lr: got 0.0, expected more than 0"),
        ({"layer_decay": 1.5}, "--layer-decay: got 1.5, expected more than 0 and at most 1"),
        ({"freeze_epochs": 2}, "--freeze-epochs: --unfreeze head leaves the backbone"),
        ({"strategy": "full", "freeze_epochs": 10}, "got 10 of 10 epochs"),
        ({"thaw_every": 2}, "--thaw-every is for --strategy gradual, not for partial"),
        ({"strategy": "gradual", "unfreeze": "last:1"}, "--unfreeze last:1 is for --strategy part"),
        ({"find_lr": True, "dry_run": True}, "choose one"),
    ],
)
def test_options__that_cannot_go_together(settings, message):
    with pytest.raises(OptionError, match=message):
        FinetuneOptions("data", **settings)


def test_bn__eval_leaves_the_statistics_and_trains_the_rest(pretrained, image_folder, tmp_path):
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


def test_gradual__says_when_it_does_not_reach_the_stem(pretrained, image_folder):
    from transferkit.recipes.finetune import finetune

    options = FinetuneOptions(
        image_folder, strategy="gradual", epochs=4, dry_run=True, **pretrained
    )

    told = dict(finetune(options).plan.settings)["strategy"]
    assert told.startswith("gradual (last:3), the first epoch for the head alone")
    assert told.endswith("4 epochs do not reach the stem")


def test_finetune__refuses_batches_of_one_picture_where_batchnorm_is_trained(image_folder):
    from transferkit.recipes.finetune import finetune

    one = {**SMALL, **FULL, "batch_size": 1, "dry_run": True}
    with pytest.raises(OptionError, match="--batch-size: got 1, and BatchNorm needs two images"):
        finetune(FinetuneOptions(image_folder, **one))
    assert finetune(FinetuneOptions(image_folder, bn="eval", **one)).plan.stages


def test_options_json__has_every_rate_as_it_was_resolved(pretrained, image_folder, tmp_path):
    for name, settings in {
        "decay": {"strategy": "gradual"},
        "spread": {"strategy": "full", "learning_rate": "1e-5:1e-3"},
    }.items():
        transferkit.finetune(image_folder, tmp_path / name, epochs=1, **{**pretrained, **settings})
    decay, spread = (
        json.loads((tmp_path / name / "options.json").read_text()) for name in ("decay", "spread")
    )

    assert (decay["layer_decay"], decay["thaw_every"], decay["freeze_epochs"]) == (0.5, 1, 0)
    assert decay["learning_rates"]["stem"] == pytest.approx(1e-3 / 10 / 16)
    assert spread["learning_rate"] == [1e-5, 1e-3]
    assert spread["layer_decay"] is spread["backbone_learning_rate"] is None
    assert spread["learning_rates"]["stem"] == pytest.approx(1e-5)


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
    """What thawed after the best epoch must be put back as well."""
    from transferkit.recipes.finetuning import training_setup

    accuracies = iter([0.2, 0.9, 0.3, 0.1])
    monkeypatch.setattr(training_setup, "top_k_accuracy", lambda *_: next(accuracies))
    monkeypatch.setattr(training_setup, "log_loss", lambda *_: 1.0)
    transferkit.finetune(
        image_folder, tmp_path, strategy="gradual", epochs=4, bn="train", **pretrained
    )

    start = load_file(pretrained["backbone"].removeprefix("local-dir:") + "/model.safetensors")
    kept = load_file(tmp_path / "model/model.safetensors")
    thawed_by_then = ("layer4.", "fc.")
    assert all(torch.equal(start[n], kept[n]) for n in start if not n.startswith(thawed_by_then))
    assert not any(torch.equal(start[n], kept[n]) for n in start if n.startswith("layer4.0.conv"))


def test_finetune__patience_begins_with_the_last_phase(
    pretrained, image_folder, tmp_path, monkeypatch
):
    from transferkit.recipes.finetuning import training_setup

    accuracies = iter([0.9, *[0.1] * 20])
    monkeypatch.setattr(training_setup, "top_k_accuracy", lambda *_: next(accuracies))
    monkeypatch.setattr(training_setup, "log_loss", lambda *_: 1.0)
    result = transferkit.finetune(
        image_folder,
        tmp_path,
        strategy="gradual",
        epochs=20,
        **pretrained | {"patience": 2},
    )

    # head, last:1 to last:4, then two of all
    assert [row.phase for row in result.history][-3:] == ["last:4", "all", "all"]
    assert len(result.history) == 7


def test_finetune__a_mode_that_is_set_wrongly_is_an_error(
    pretrained, image_folder, tmp_path, monkeypatch
):
    """The proof follows from the plan, not from the modes that carry it out."""
    from transferkit.training import loop

    monkeypatch.setattr(loop, "train_mode", lambda module, batch_norm: module.train())

    with pytest.raises(TransferKitError, match=r"45 tensors changed .* frozen: conv1\."):
        transferkit.finetune(image_folder, tmp_path, epochs=1, **pretrained)
    assert (tmp_path / "history.csv").is_file()
    assert not (tmp_path / "model").exists()


def test_finetune__a_frozen_tensor_that_moves_is_an_error(
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


def test_partial__last_stages_after_head_only_epochs(pretrained, image_folder, tmp_path):
    result = transferkit.finetune(
        image_folder, tmp_path, unfreeze="last:1", freeze_epochs=1, epochs=2, **pretrained
    )

    assert [row.phase for row in result.history] == ["head", "last:1"]


def test_finetune__draws_the_same_whether_or_not_other_strategies_are_estimated(
    image_folder, tmp_path, monkeypatch
):
    """With dropout in what is trained, on both sides of the time that decides about it."""
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
