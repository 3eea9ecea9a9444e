"""Settings that the options leave open: phases, rates and batch norm."""

import json

import pytest

import transferkit
from transferkit.errors import OptionError


def test_full__begins_with_a_linear_head_or_trains_a_random_one_alone_first(pretrained, plan_of):
    plan = plan_of(strategy="full", head_start="linear", **pretrained)
    assert [(p.name, p.epochs) for p in plan.phases] == [("all", (1, 10))]
    assert "the head begins as the linear classifier" in dict(plan.settings)["strategy"]

    plan = plan_of(strategy="full", head_start="random", **pretrained)
    assert [(p.name, p.epochs) for p in plan.phases] == [("head", (1, 1)), ("all", (2, 10))]
    assert "the first epoch for the head alone" in dict(plan.settings)["strategy"]

    plan = plan_of(strategy="full", head_start="random", freeze_epochs=0, **pretrained)
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
def test_rates__of_a_head_alone_are_larger(small, plan_of, settings, expected):
    assert plan_of(**small, **settings).stages[-1].learning_rate == expected


def test_full__from_random_weights_trains_everything_from_the_start(small, plan_of):
    plan = plan_of(strategy="full", **small)

    assert [p.name for p in plan.phases] == ["all"]
    assert {stage.learning_rate for stage in plan.stages} == {1e-3}
    assert dict(plan.settings)["batchnorm"].startswith("train")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"head_start": "linear"}, [6.25e-6, 1.25e-5, 2.5e-5, 5e-5, 1e-4, 1e-4]),
        ({}, [6.25e-6, 1.25e-5, 2.5e-5, 5e-5, 1e-4, 1e-3]),
        ({"learning_rate": "auto"}, [6.25e-6, 1.25e-5, 2.5e-5, 5e-5, 1e-4, 1e-3]),
        ({"learning_rate": 2e-3, "layer_decay": 1}, [2e-4] * 5 + [2e-3]),
        (
            {"backbone_learning_rate": 1e-2, "layer_decay": 0.1},
            [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-3],
        ),
        ({"learning_rate": "1e-8:1e-3"}, [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3]),
        ({"learning_rate": [1e-8, 1e-3]}, [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3]),
    ],
)
def test_rates__are_one_per_stage(pretrained, plan_of, settings, expected):
    plan = plan_of(**{**pretrained, "strategy": "full", **settings})

    assert [stage.learning_rate for stage in plan.stages] == pytest.approx(expected)


def test_batches__of_one_image_are_refused_if_batchnorm_is_trained(small, plan_of):
    one = small | {"strategy": "full", "batch_size": 1}
    with pytest.raises(OptionError, match="--batch-size: got 1, and BatchNorm needs two images"):
        plan_of(**one)

    assert plan_of(bn="eval", **one).stages


def test_options_json__has_every_resolved_rate(pretrained, image_folder, tmp_path):
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
