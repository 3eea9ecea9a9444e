"""Strategies: which stages are trained in which epochs, for every strategy."""

from itertools import pairwise

import pytest
import torch

from transferkit.errors import OptionError
from transferkit.models.create_network import create_network
from transferkit.models.strategies import Phase, Strategy, plan_phases
from transferkit.models.unfreeze import EVERYTHING, HEAD_ALONE, Unfreeze


@pytest.fixture(scope="module")
def network():
    """Stem, four stages and a head."""
    torch.manual_seed(0)
    return create_network("test_resnet", weights="none", num_classes=3)


def planned(network, strategy, *, epochs=10, unfreeze="head", freeze_epochs=0, thaw_every=1):
    phases = plan_phases(
        network,
        strategy=strategy,
        unfreeze=Unfreeze(unfreeze),
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
def test_plan_phases__follow_the_strategy(network, strategy, settings, expected):
    assert planned(network, strategy, **settings) == expected


def test_plan_phases__gradual_adds_one_stage_per_phase(network):
    phases = plan_phases(
        network,
        strategy=Strategy.GRADUAL,
        unfreeze=HEAD_ALONE,
        epochs=20,
        freeze_epochs=1,
        thaw_every=2,
    )
    trained = [[stage.name for stage in phase.trainable] for phase in phases]

    assert trained[0] == ["head"]
    assert trained[1:3] == [["stage4", "head"], ["stage3", "stage4", "head"]]
    assert trained[-1] == [stage.name for stage in network.stages]
    assert all(a.parameters < b.parameters for a, b in pairwise(phases))
    assert phases[-1].parameters == {name for stage in network.stages for name in stage.parameters}


def test_plan_phases__cover_every_epoch_once(network):
    for epochs in range(1, 12):
        phases = planned(network, Strategy.GRADUAL, epochs=epochs, freeze_epochs=2, thaw_every=2)
        numbers = [e for _, first, last in phases for e in range(first, last + 1)]

        assert numbers == list(range(1, epochs + 1))


def test_plan_phases__an_unknown_stage_is_an_error(network):
    with pytest.raises(OptionError, match="--unfreeze: got last:9, but the backbone has 5 stages"):
        planned(network, Strategy.PARTIAL, unfreeze="last:9", freeze_epochs=1)


@pytest.mark.parametrize("unfreeze", ["last:5", "from:stem", "all"])
def test_phase__of_all_stages_freezes_nothing_under_any_name(network, unfreeze):
    phase = Phase.of(network, Unfreeze(unfreeze), range(1, 3))

    assert not phase.freezes_anything
    assert phase.parameters == Phase.of(network, EVERYTHING, range(1, 3)).parameters
    assert Phase.of(network, HEAD_ALONE, range(1, 3)).frozen == {
        name for name, _ in network.module.named_parameters() if not name.startswith("fc.")
    }
