"""What the console reporter prints, from made-up data and a clock that the test sets."""

from io import StringIO

import pytest
from rich.console import Console

from transferkit.cli.console import ConsoleReporter, describe_time, print_plan
from transferkit.reporter import PhaseRow, Plan, StageRow
from transferkit.training.lr_range_test import judge


class Clock:
    """Seconds that pass only when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def plan_taking(*seconds: tuple[str, float]) -> Plan:
    return Plan(
        settings=(("strategy", "partial"),),
        classes={"red": (6, 2, 0)},
        left_out=(),
        stages=(StageRow("head", ("fc",), 10, 10, 0.01, 1),),
        phases=(PhaseRow("head", (1, 2), 10),),
        seconds=seconds,
    )


def printed(plan: Plan) -> str:
    console = Console(file=StringIO(), width=100)
    print_plan(plan, console)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "line"),
    [
        ((("head", 0.4),), "        time  about 1 s"),
        ((("last:1", 130.0),), "        time  about 2 min"),
        (
            (("head", 42.0), ("head", 42.0), ("last:1", 100.0), ("full", 9000.0)),
            "        time  about 42 s; with as many epochs, head 42 s, last:1 2 min, full 2.5 h",
        ),
    ],
)
def test_print_plan__estimates_the_time_of_the_run_and_of_other_strategies(seconds, line):
    assert line in printed(plan_taking(*seconds)).splitlines()


def test_print_plan__has_no_time_without_an_estimate():
    assert "time" not in printed(plan_taking())


def test_describe_time__names_the_longest_part_first():
    metrics = {"time": {"frozen_layers": 3.0, "training": 12.04}, "images_per_second": 41.6}

    assert describe_time(metrics) == (
        "time: training 12.0 s, frozen layers 3.0 s; 42 training images per second"
    )


def test_progress__shows_rate_and_remaining_time_by_the_given_clock():
    console = Console(file=StringIO(), width=100, force_terminal=True, color_system=None)
    clock = Clock()
    with ConsoleReporter(console, clock).progress("epoch 1", 40) as count:
        for _ in range(2):
            clock.seconds += 2.0
            count.advance(16, "loss 0.50")
        count.progress.refresh()

    text = console.file.getvalue()
    assert "32/40 8 images/s loss 0.50 0:00:01" in text


def test_progress__shows_nothing_in_a_pipe():
    console = Console(file=StringIO(), width=100)
    with ConsoleReporter(console).progress("epoch 1", 40) as count:
        count.advance(40)

    assert console.file.getvalue() == ""


def test_resumable__shows_the_command_unwrapped_and_unstyled():
    console = Console(file=StringIO(), width=20)
    ConsoleReporter(console).resumable("transferkit finetune photos -o '[bold]' --resume")

    assert console.file.getvalue() == (
        "resume with: transferkit finetune photos -o '[bold]' --resume\n"
    )


def test_resumable__is_shown_after_an_interruption_within_a_print():
    console = Console(file=StringIO())
    reporter = ConsoleReporter(console)
    console.__enter__()  # a signal may end a print before the exit that follows it

    reporter.notice("lost")
    reporter.resumable("the same command")

    assert console.file.getvalue() == "resume with: the same command\n"


def test_print_range_test__draws_no_curve_of_a_single_step(capsys, tmp_path):
    from transferkit.cli.console import print_range_test, standard_output

    test = judge([1e-6, 1e-5], [1.0, float("nan")])
    print_range_test(test, tmp_path / "find_lr.png", standard_output())

    assert capsys.readouterr().out.startswith("no suggestion: no rate made the loss fall")
