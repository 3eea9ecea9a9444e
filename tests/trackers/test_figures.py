"""What trackers record: names and values."""

from pathlib import Path

from transferkit.reporter import PhaseRow, Plan, RunStart, StageRow
from transferkit.trackers.figures import final_figures, parameters


def test_parameters__are_the_options_and_the_plan():
    plan = Plan(
        settings=(("strategy", "full (everything)"),),
        classes={"red": (6, 2, 0), "blue": (4, 1, 0)},
        left_out=(),
        stages=(
            StageRow("stem", ("conv",), 10, 0, None, None),
            StageRow("head", ("fc",), 10, 10, 0.01, 1),
        ),
        phases=(PhaseRow("head", (1, 2), 10),),
    )
    options = {"strategy": "full", "epochs": 2, "layer": [], "image_size": [32, 64], "val": None}
    start = RunStart(Path("run"), options, plan, is_resumed=False)

    assert parameters(start) == {
        "strategy": "full",
        "epochs": 2,
        "layer": "[]",
        "image_size": "[32, 64]",
        "plan/strategy": "full (everything)",
        "plan/lr/head": 0.01,
        "plan/phase 1": "head, epochs 1 to 2",
        "plan/classes": 2,
        "plan/train images": 10,
        "plan/val images": 3,
        "plan/test images": 0,
    }


def test_final_figures__are_the_numbers_without_tables():
    metrics = {
        "val": {
            "accuracy": 0.5,
            "per_class": {"red": {"f1": 1.0}},
            "accuracy_interval": {"low": 0},
        },
        "answering": [{"share": 1.0}],
        "frozen": {"unchanged": True, "tensors": 3},
        "stopped": "the loss became nan",
    }

    assert final_figures(metrics) == {
        "final/val/accuracy": 0.5,
        "final/val/accuracy_interval/low": 0.0,
        "final/frozen/tensors": 3.0,
    }
