"""Learning rates that differ between stages."""

import pytest

from transferkit.training.learning_rates import default_layer_decay, spread_rates, stage_rates


def test_stage_rates__fall_from_the_last_stage_towards_the_stem():
    rates = stage_rates(
        ["stem", "stage1", "stage2"], "head", head_rate=1.0, backbone_rate=0.1, decay=0.5
    )

    assert rates == {"stem": 0.025, "stage1": 0.05, "stage2": 0.1, "head": 1.0}


def test_spread_rates__is_geometric_from_stem_to_head():
    rates = spread_rates(["stem", "stage1", "stage2", "head"], 1e-6, 1e-3)

    assert list(rates.values()) == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3])


@pytest.mark.parametrize(("stages", "decay"), [(1, 1 / 16), (2, 1 / 16), (5, 0.5), (13, 0.794)])
def test_default_layer_decay__gives_the_stem_a_sixteenth(stages, decay):
    assert default_layer_decay(stages) == pytest.approx(decay, abs=1e-3)
