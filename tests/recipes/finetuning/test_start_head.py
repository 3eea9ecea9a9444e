"""The start of the head: linear where it can be and pays, random where it cannot."""

import json

import pytest

import transferkit
from transferkit.errors import OptionError
from transferkit.models.create_network import create_network

FEWEST = "transferkit.recipes.finetuning.resolve_settings.FEWEST_PER_CLASS"


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ({"strategy": "full"}, "linear"),
        ({"strategy": "gradual"}, "linear"),
        ({"unfreeze": "last:1"}, "linear"),
        ({}, "random"),
        ({"strategy": "full", "weights": "none"}, "random"),
        ({"unfreeze": "last:1", "head_start": "random"}, "random"),
        ({"head_start": "linear"}, "linear"),
    ],
)
def test_head_start__is_linear_where_pretrained_stages_are_trained(
    pretrained, image_folder, tmp_path, monkeypatch, strategy, expected
):
    monkeypatch.setattr(FEWEST, 6)
    result = transferkit.finetune(
        image_folder, tmp_path, epochs=1, report=False, **pretrained | strategy
    )

    options = json.loads((tmp_path / "options.json").read_text())
    assert options["head_start"] == expected
    begins = "the head begins as the linear classifier" in dict(result.plan.settings)["strategy"]
    assert begins == (expected == "linear")


def test_head_start__is_random_for_few_images_per_class(pretrained, plan_of, monkeypatch):
    monkeypatch.setattr(FEWEST, 7)

    strategy = dict(plan_of(strategy="full", **pretrained).settings)["strategy"]

    assert "the first epoch for the head alone" in strategy


@pytest.mark.parametrize(("epochs", "begins_linear", "rate"), [(33, True, 1e-4), (34, False, 1e-2)])
def test_head_start__is_random_at_high_rates_in_long_runs(
    pretrained, plan_of, monkeypatch, epochs, begins_linear, rate
):
    """Three steps per epoch."""
    monkeypatch.setattr(FEWEST, 6)

    plan = plan_of(strategy="full", epochs=epochs, **pretrained)

    assert ("begins as the linear" in dict(plan.settings)["strategy"]) == begins_linear
    assert plan.stages[-1].learning_rate == rate


def test_head_start__is_linear_in_long_runs_of_networks_without_batchnorm(
    image_folder, plan_of, tmp_path, monkeypatch
):
    monkeypatch.setattr(FEWEST, 6)
    options = {"backbone": "test_vit", "image_size": 160, "batch_size": 6}
    transferkit.finetune(
        image_folder, tmp_path, weights="none", strategy="full", epochs=1, report=False, **options
    )

    options["backbone"] = f"local-dir:{tmp_path}/model"
    plan = plan_of(strategy="full", epochs=50, **options)

    assert "begins as the linear" in dict(plan.settings)["strategy"]
    assert plan.stages[-1].learning_rate == 1e-4


def test_head_start__knows_the_classes_before_the_first_step(pretrained, image_folder, tmp_path):
    """At a rate so low that nothing moves, the accuracy is that of the start."""
    accuracies = {}
    for start in ("linear", "random"):
        result = transferkit.finetune(
            image_folder,
            tmp_path / start,
            unfreeze="last:1",
            head_start=start,
            epochs=1,
            learning_rate=1e-9,
            report=False,
            **pretrained,
        )
        accuracies[start] = result.history[0].train_accuracy

    assert accuracies["linear"] >= 0.9
    assert accuracies["random"] < 0.8


def test_head_start__is_the_same_in_a_resumed_run(pretrained, image_folder, tmp_path):
    options = {
        "unfreeze": "last:1",
        "head_start": "linear",
        "epochs": 3,
        "report": False,
        **pretrained,
    }
    whole = transferkit.finetune(image_folder, tmp_path / "whole", **options)
    from transferkit.options.finetune import FinetuneOptions
    from transferkit.recipes.finetune import finetune

    given = FinetuneOptions(data=image_folder, output=tmp_path / "paused", **options)
    finetune(given, should_stop=lambda row: row.epoch == 1)
    resumed = transferkit.finetune(image_folder, tmp_path / "paused", resume=True)

    assert [row.train_loss for row in resumed.history] == [row.train_loss for row in whole.history]


def test_head_start__stays_random_when_a_run_with_a_range_test_is_resumed(
    pretrained, image_folder, tmp_path
):
    from transferkit.options.finetune import FinetuneOptions
    from transferkit.recipes.finetune import finetune

    given = FinetuneOptions(
        data=image_folder,
        output=tmp_path,
        strategy="full",
        learning_rate="auto",
        epochs=3,
        report=False,
        **pretrained,
    )
    finetune(given, should_stop=lambda row: row.epoch == 1)
    resumed = transferkit.finetune(image_folder, tmp_path, resume=True)

    assert [row.phase for row in resumed.history] == ["head", "all", "all"]
    assert json.loads((tmp_path / "options.json").read_text())["head_start"] == "random"


def test_head_start__linear_is_refused_for_a_head_of_another_kind(image_folder, tmp_path):
    options = {"weights": "none", "image_size": 64, "strategy": "full", "epochs": 1}

    with pytest.raises(OptionError, match="--head-start linear: the head of levit_128s is not a"):
        transferkit.finetune(
            image_folder, tmp_path, backbone="levit_128s", head_start="linear", **options
        )


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("resnet18", 32, True),
        ("torchvision:squeezenet1_1", 64, False),
        ("deit_tiny_distilled_patch16_224", 32, False),
        ("vit_tiny_patch16_224", 32, True),
        ("edges8", 32, True),
    ],
)
def test_has_linear_head__finds_heads_of_one_linear_layer(name, size, expected):
    weights = "pretrained" if name == "edges8" else "none"
    network = create_network(name, weights=weights, num_classes=5, image_size=size)

    assert network.has_linear_head() is expected
