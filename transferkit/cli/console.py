"""What the command line shows: progress and notices on standard error, results on standard output.

In a terminal, rich draws tables and progress bars. In a pipe, each finished step is a plain line.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from transferkit.cli.curve import draw_curve
from transferkit.durations import describe_seconds
from transferkit.places import Place
from transferkit.reporter import EpochRow, LeftOut, Plan, SilentReporter
from transferkit.reporter import Progress as Count
from transferkit.tables import csv_writer

if TYPE_CHECKING:
    from transferkit.training.lr_range_test import RangeTest

_SHOWN_LEFT_OUT = 10
"""How many files that are no images `print_left_out` names."""

_PIPE_WIDTH = 100
"""The line width of tables in a pipe, in characters, unless COLUMNS says otherwise."""

_CEILING = 1.25
"""Losses of a range test are drawn up to this multiple of the first one."""


def standard_error() -> Console:
    """Return the console for progress and notices."""
    return _console(sys.stderr)


def standard_output() -> Console:
    """Return the console for results."""
    return _console(sys.stdout)


def _console(file: object) -> Console:
    console = Console(file=file, highlight=False, soft_wrap=False)  # type: ignore[arg-type]
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_WIDTH
    return console


def escape(text: str) -> str:
    """Return `text` so that a terminal only shows it: without markup and control characters."""
    return escape_markup(inert(text))


def inert(text: str) -> str:
    r"""Return `text` with control characters written as escapes such as `\x1b`.

    >>> inert("two" + chr(10) + "lines")
    'two\\nlines'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@dataclass
class _BarCount:
    progress: Progress
    task: TaskID
    clock: Callable[[], float]
    started: float
    done: int = 0

    def advance(self, count: int, detail: str = "") -> None:
        self.done += count
        rate = self.done / max(self.clock() - self.started, 1e-9)
        self.progress.update(self.task, advance=count, rate=f"{rate:.0f} images/s", detail=detail)


_PHASE_WIDTH = 11
_EPOCH_HEADING = (
    f"{'epoch':>7} {'trained':<{_PHASE_WIDTH}}{'loss':>9}{'acc':>7}{'val loss':>10}{'acc':>7} "
    f"{'lr':>8}{'backbone':>9}{'time':>9}"
)
"""The heading of the epochs' lines, which fit 80 columns."""


def _fitted(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


class ConsoleReporter(SilentReporter):
    """Draws a run in a terminal, or writes it as plain lines in a pipe.

    Args:
        console: Where to show it.
        clock: Seconds since any fixed moment, for the rates and remaining times of progress bars.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self._last_epoch = 0
        self._clock = clock
        self._bar: Progress | None = None

    def notice(self, message: str) -> None:
        """Print one line."""
        self.console.print(escape(message), soft_wrap=True)

    def left_out(self, left_out: Sequence[LeftOut]) -> None:
        """Print one line for every unreadable image, and for some of the other files."""
        print_left_out(left_out, self.console)

    def plan(self, plan: Plan) -> None:
        """Print the plan's tables."""
        print_plan(plan, self.console)

    def resumable(self, command: str) -> None:
        """Print the command that resumes the interrupted run."""
        # A signal within a print leaves rich's console as if that print still went on, and what is
        # printed after it would wait for its end.
        self.console = _console(self.console.file)
        self.notice(f"resume with: {command}")

    def epoch(self, row: EpochRow, epochs: int, best: bool) -> None:
        """Print one line below a heading; a star marks the best epoch so far."""
        if row.epoch != self._last_epoch + 1 or row.epoch == 1:
            self.console.print(_EPOCH_HEADING, soft_wrap=True)
        self._last_epoch = row.epoch
        number = f"{row.epoch}/{epochs}"
        backbone = f"{row.lr_backbone:.1e}" if row.lr_backbone else "frozen"
        self.console.print(
            f"{number:>7} {escape(_fitted(row.phase, _PHASE_WIDTH)):<{_PHASE_WIDTH}}"
            f"{row.train_loss:>9.4f}{row.train_accuracy:>7.3f}{row.val_loss:>10.4f}"
            f"{row.val_accuracy:>7.3f}{'*' if best else ' '}{row.lr_head:>8.1e}{backbone:>9}"
            f"{row.seconds:>7.1f} s",
            soft_wrap=True,
        )

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Count]:
        """Show a bar that disappears at the end of the block; show nothing in a pipe."""
        if not self.console.is_terminal:
            with SilentReporter().progress(description, total) as silent:
                yield silent
            return
        with self._display() as bar:
            task = bar.add_task(escape(description), total=total, rate="", detail="")
            yield _BarCount(bar, task, self._clock, self._clock())
            bar.remove_task(task)

    @contextmanager
    def _display(self) -> Iterator[Progress]:
        """Yield the display of all bars; a nested count shares the one of the outer count."""
        if self._bar:
            yield self._bar
            return
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            get_time=self._clock,
        )
        self._bar = bar
        try:
            with bar:
                yield bar
        finally:
            self._bar = None


def print_plan(plan: Plan, console: Console) -> None:
    """Print what a run will do."""
    for name, value in plan.settings:
        console.print(f"[bold]{name:>12}[/]  {escape(value)}", soft_wrap=True)
    if plan.seconds:
        console.print(f"[bold]{'time':>12}[/]  {_estimates(plan)}", soft_wrap=True)
    console.print(_classes_table(plan))
    print_left_out(plan.left_out, console)
    console.print(_stages_table(plan))
    if len(plan.phases) > 1:
        console.print(_phases_table(plan))


def _estimates(plan: Plan) -> str:
    (_, own), *others = plan.seconds
    text = f"about {describe_seconds(own)}"
    if others:
        listed = ", ".join(f"{name} {describe_seconds(seconds)}" for name, seconds in others)
        text += f"; with as many epochs, {listed}"
    return text


def print_range_test(test: "RangeTest", plot: Place, console: Console) -> None:
    """Draw the smoothed loss over the rates, and print the suggested rate and the plot's path."""
    # Losses far above the first one only say that training diverged, and would flatten the rest.
    ceiling = _CEILING * test.smoothed[0]
    steps = zip(test.rates, test.smoothed, strict=True)
    rates, losses = zip(*(step for step in steps if step[1] <= ceiling), strict=True)
    if len(rates) > 1:
        console.print("smoothed training loss by learning rate of the head")
        console.print(draw_curve(rates, losses, test.suggestion), soft_wrap=True)
    if test.suggestion is None:
        console.print(f"no suggestion: {test.reason}", soft_wrap=True)
    else:
        console.print(f"suggestion: --lr {test.suggestion:g}, {test.reason}", soft_wrap=True)
    console.print(f"plot: {escape(str(plot))}", soft_wrap=True)


def describe_accuracy(metrics: Mapping[str, Any]) -> str:
    """Describe the accuracy and its interval in the metrics that `summarize` returns."""
    interval = metrics["accuracy_interval"]
    return (
        f"{metrics['accuracy']:.3f} ({interval['low']:.3f} to {interval['high']:.3f}, "
        f"{interval['level']:.0%} {interval['method'].capitalize()})"
    )


def describe_time(metrics: Mapping[str, Any]) -> str:
    """Describe where a run's time went, longest part first, from the run's metrics."""
    parts = sorted(metrics["time"].items(), key=lambda part: -part[1])
    listed = ", ".join(f"{name.replace('_', ' ')} {seconds:.1f} s" for name, seconds in parts)
    return f"time: {listed}; {metrics['images_per_second']:.0f} training images per second"


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]], console: Console) -> None:
    """Print a table in a terminal, numbers from its third column on; print CSV in a pipe."""
    if not console.is_terminal:
        csv_writer(sys.stdout).writerows([columns, *rows])
        return
    table = Table(*columns[:2])
    for column in columns[2:]:
        table.add_column(column, justify="right")
    for values in rows:
        table.add_row(*map(escape, values))
    console.print(table)


def print_left_out(left_out: Sequence[LeftOut], console: Console) -> None:
    """Name the files of a dataset that are not used: every unreadable image, some of the rest."""
    other = [item for item in left_out if not item.unreadable]
    shown = [item for item in left_out if item.unreadable] + other[:_SHOWN_LEFT_OUT]
    for item in shown:
        console.print(f"left out: {escape(item.path)}: {escape(item.reason)}", soft_wrap=True)
    if len(shown) < len(left_out):
        console.print(f"left out: {len(left_out) - len(shown)} more that are no images")


def _classes_table(plan: Plan) -> Table:
    table = Table("class", title="Images", title_justify="left")
    splits = ["train", "val", "test"]
    totals = [sum(counts[i] for counts in plan.classes.values()) for i in range(3)]
    shown = [i for i in range(3) if totals[i]]
    for i in shown:
        table.add_column(splits[i], justify="right")
    for name, counts in plan.classes.items():
        table.add_row(escape(name), *(str(counts[i]) for i in shown))
    table.add_section()
    table.add_row("all", *(str(totals[i]) for i in shown))
    return table


def _stages_table(plan: Plan) -> Table:
    table = Table("stage", "modules", title="Stages", title_justify="left")
    for column in ("parameters", "trainable", "learning rate", "from epoch"):
        table.add_column(column, justify="right")
    for stage in plan.stages:
        rate = "frozen" if stage.learning_rate is None else f"{stage.learning_rate:.1e}"
        modules = ", ".join(stage.modules[:3]) + (" ..." if len(stage.modules) > 3 else "")
        table.add_row(
            stage.name,
            escape(modules),
            f"{stage.parameters:,}",
            f"{stage.trainable:,}",
            rate,
            "" if stage.first_epoch is None else str(stage.first_epoch),
        )
    table.add_section()
    total, trainable = (
        sum(getattr(s, a) for s in plan.stages) for a in ("parameters", "trainable")
    )
    table.add_row("all", "", f"{total:,}", f"{trainable:,}", "", "")
    return table


def _phases_table(plan: Plan) -> Table:
    table = Table("trained", title="Phases", title_justify="left")
    for column in ("epochs", "trainable"):
        table.add_column(column, justify="right")
    for phase in plan.phases:
        first, last = phase.epochs
        epochs = str(first) if first == last else f"{first}-{last}"
        table.add_row(escape(phase.name), epochs, f"{phase.trainable:,}")
    return table
