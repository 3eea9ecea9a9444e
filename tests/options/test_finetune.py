"""Options of a run: combinations that are refused."""

import pytest

from transferkit.errors import OptionError
from transferkit.options.finetune import FinetuneOptions

FULL = {"strategy": "full"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": "1e-3:1e-5"} | FULL, "--lr: got 0.001:1e-05, expected the stem's rate"),
        ({"learning_rate": "1e-5:1e-3", "layer_decay": 0.5} | FULL, "leave out --backbone-lr and"),
        ({"learning_rate": "1e-5:1e-3", "backbone_learning_rate": 1} | FULL, "leave out --backb"),
        ({"learning_rate": "auto", "backbone_learning_rate": 1} | FULL, "a range test scales all"),
        ({"find_lr": True, "backbone_learning_rate": 1} | FULL, "a range test scales all"),
        ({"find_lr": True, "learning_rate": [1e-5, 1e-3]} | FULL, "a range test scales all"),
        (
            {"learning_rate": (1e-5, 1e-4, 1e-3)} | FULL,
            r"--lr: got \(1e-05, 0.0001, 0.001\), expected a number or a pair",
        ),
        ({"learning_rate": "1e-5:1e-3"}, "--lr A:B: --unfreeze head leaves the backbone unchanged"),
        ({"backbone_learning_rate": 1e-3}, "--backbone-lr: --unfreeze head leaves the backbone"),
        ({"layer_decay": 0.5}, "--layer-decay: --unfreeze head leaves the backbone"),
        ({"bn": "train"}, "--bn: --unfreeze head leaves the backbone"),
        ({"learning_rate": "fast"}, "--lr: 'fast' is not a number, two numbers"),
        ({"learning_rate": "0:1"}, "--lr: got 0.0, expected more than 0"),
        ({"layer_decay": 1.5}, "--layer-decay: got 1.5, expected more than 0 and at most 1"),
        ({"freeze_epochs": 2}, "--freeze-epochs: --unfreeze head leaves the backbone"),
        ({"strategy": "full", "freeze_epochs": 10}, "got 10 of 10 epochs"),
        ({"thaw_every": 2}, "--thaw-every is for --strategy gradual, not for partial"),
        ({"strategy": "gradual", "unfreeze": "last:1"}, "--unfreeze last:1 is for --strategy part"),
        ({"find_lr": True, "dry_run": True}, "trains nothing; leave one out"),
    ],
)
def test_options__that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(OptionError, match=message):
        FinetuneOptions("data", **settings)


@pytest.mark.parametrize("name", ["classifier", "layer", "pool"])
def test_features__has_options_that_others_refuse(name):
    value = {"classifier": "svm", "layer": ("stem",), "pool": "max"}[name]
    with pytest.raises(OptionError, match=f"--{name} is for --strategy features, not for partial"):
        FinetuneOptions("data", **{name: value})


@pytest.mark.parametrize("rate", ["inf", "nan"])
def test_options__refuse_a_rate_that_is_not_finite(rate):
    with pytest.raises(OptionError, match=f"--lr: got {rate}, expected more than 0"):
        FinetuneOptions("data", learning_rate=float(rate))
