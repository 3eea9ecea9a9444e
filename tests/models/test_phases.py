"""Phases: which stages are trained in which epochs, for every strategy."""

from itertools import pairwise

import pytest
import torch

from transferkit.errors import OptionError
from transferkit.models.phases import Strategy, plan_phases
from transferkit.models.sources import create_network


@pytest.fixture(scope="module")
def stages():
    """Stem, four stages and a head."""
    torch.manual_seed(0)
    return create_network("test_resnet", weights="none", num_classes=3).stages


def planned(stages, strategy, *, epochs=10, unfreeze="head", freeze_epochs=0, thaw_every=1):
    phases = plan_phases(
        stages,
        strategy=strategy,
        unfreeze=unfreeze,
        epochs=epochs,
        freeze_epochs=freeze_epochs,
        thaw_every=thaw_every,
    )
    return [(p.name, p.epochs.start, p.epochs.stop - 1) for p in phases]


@pytest.mark.parametrize(
    ("strategy", "settings", "expected"),
    [
        (Strategy.PARTIAL, {}, [("head", 1, 10)]),
        (Strategy.PARTIAL, {"unfreeze": "last:2"}, [("last:2", 1, 10)]),
        (
            Strategy.PARTIAL,
            {"unfreeze": "last:2", "freeze_epochs": 3},
            [("head", 1, 3), ("last:2", 4, 10)],
        ),
        (Strategy.FULL, {}, [("all", 1, 10)]),
        (Strategy.FULL, {"freeze_epochs": 1}, [("head", 1, 1), ("all", 2, 10)]),
        (
            Strategy.GRADUAL,
            {"freeze_epochs": 2},
            [
                ("head", 1, 2),
                ("last:1", 3, 3),
                ("last:2", 4, 4),
                ("last:3", 5, 5),
                ("last:4", 6, 6),
                ("all", 7, 10),
            ],
        ),
        (
            Strategy.GRADUAL,
            {"freeze_epochs": 1, "thaw_every": 3},
            [("head", 1, 1), ("last:1", 2, 4), ("last:2", 5, 7), ("last:3", 8, 10)],
        ),
        (
            Strategy.GRADUAL,
            {"freeze_epochs": 4, "thaw_every": 0},
            [("head", 1, 4), ("all", 5, 10)],
        ),
        (Strategy.GRADUAL, {"epochs": 1}, [("last:1", 1, 1)]),
    ],
)
def test_plan_phases(stages, strategy, settings, expected):
    assert planned(stages, strategy, **settings) == expected


def test_plan_phases__each_trains_what_the_one_before_did_and_a_stage_more(stages):
    phases = plan_phases(
        stages,
        strategy=Strategy.GRADUAL,
        unfreeze="head",
        epochs=20,
        freeze_epochs=1,
        thaw_every=2,
    )
    trained = [[stage.name for stage in phase.trainable] for phase in phases]

    assert trained[0] == ["head"]
    assert trained[1:3] == [["stage4", "head"], ["stage3", "stage4", "head"]]
    assert trained[-1] == [stage.name for stage in stages]
    assert all(a.parameters < b.parameters for a, b in pairwise(phases))
    assert phases[-1].parameters == {name for stage in stages for name in stage.parameters}


def test_plan_phases__cover_every_epoch_once(stages):
    for epochs in range(1, 12):
        phases = planned(stages, Strategy.GRADUAL, epochs=epochs, freeze_epochs=2, thaw_every=2)
        numbers = [e for _, first, last in phases for e in range(first, last + 1)]

        assert numbers == list(range(1, epochs + 1))


def test_plan_phases__says_when_there_is_no_such_stage(stages):
    with pytest.raises(OptionError, match="--unfreeze: got last:9, but the backbone has 5 stages"):
        planned(stages, Strategy.PARTIAL, unfreeze="last:9", freeze_epochs=1)
